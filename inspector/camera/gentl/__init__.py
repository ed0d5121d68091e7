"""A simulated GenICam camera behind its own GenTL producer. Here it is built; `stage.py` is the world before its lens,
`layout.py` the shared memory where the two meet.

Whoever speaks GenTL can open the camera: harvesters, Aravis, a maker's viewer. Knows no consumer.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from inspector.camera import CameraError

SOURCE = Path(__file__).with_name("producer.c")
DESCRIPTION = Path(__file__).with_name("camera.xml")
OPTIONS = ("-std=c11", "-O3", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden")
LIBRARIES = ("-lm", "-ldl")
BUILD_TIMEOUT_S = 120
_WHAT_TO_DO = 'install a C compiler (apt install gcc libc6-dev), or take kind = "simulator" in station.toml'


def producer_file() -> Path:
    """The producer's .cti file, built by the C compiler of this machine when it is asked for the first time.

    Its name holds a hash of what it is made from, so that a stale one is never used; several processes may ask at once.

    Raises:
        CameraError: there is no compiler, or it failed; the text holds the compiler's words and what to do.
    """
    file = cache_folder() / f"simulated-camera-{_fingerprint()}.cti"
    if not file.is_file():
        _build(file)
    return file


def cache_folder() -> Path:
    """Where the built file is kept: what systemd gives a service, else the user's cache."""
    if folders := os.environ.get("CACHE_DIRECTORY"):
        return Path(folders.split(":")[0])
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "inspector"
    return Path.home() / ".cache" / "inspector"


def compiler_command(output: Path, *more_options: str) -> list[str]:
    """The command that builds the producer.

    Raises:
        CameraError: there is no compiler.
    """
    description = f'-DCAMERA_XML="{DESCRIPTION}"'
    return [*_compiler(), *OPTIONS, *more_options, description, "-o", str(output), str(SOURCE), *LIBRARIES]


def _fingerprint() -> str:
    digest = hashlib.sha256(repr((OPTIONS, LIBRARIES, platform.machine())).encode())
    for file in (SOURCE, DESCRIPTION):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> list[str]:
    if named := shlex.split(os.environ.get("CC", "")):
        return named
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    raise CameraError(f"the simulated camera has to be built and there is no C compiler: {_WHAT_TO_DO}")


def _build(file: Path) -> None:
    """Build beside the file and rename: it is there whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=file.parent) as folder:
            built = Path(folder) / file.name
            _compile(compiler_command(built))
            built.replace(file)
    except OSError as error:
        raise CameraError(
            f"the simulated camera could not be built in {file.parent}: {error}; set CACHE_DIRECTORY to a folder that "
            f"can be written, or {_WHAT_TO_DO}"
        ) from error


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise CameraError(f"{command[0]} took more than {BUILD_TIMEOUT_S} s to build the simulated camera") from error
    if done.returncode:
        raise CameraError(
            f"{command[0]} could not build the simulated camera: {_WHAT_TO_DO}. It says:\n{done.stderr.strip()}"
        )
