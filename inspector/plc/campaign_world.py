"""What a campaign does to a station's disk and clock without being root: each in the station's processes only."""

import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

SOURCE = Path(__file__).with_name("campaign_clock.c")
PIECE = bytes(4096)


class CannotHereError(Exception):
    """This machine does not allow or have what is needed; the text says what."""


class SmallDisk:
    """A disk in memory that only processes behind `inside` see: mounted in a user namespace of its own."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._keeper: subprocess.Popen[str] | None = None
        self._root = Path()  # the disk, as this process sees it
        self.inside: list[str] = []  # before the command of a process that is to see the disk

    def __enter__(self) -> Self:
        """Mount the disk.

        Raises:
            CannotHereError: user namespaces are not allowed here, or their tools are missing.
        """
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            raise CannotHereError("unshare and nsenter are missing (util-linux)")
        mount = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'  # cat ends when this process does
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(self._size)]
        self._keeper = subprocess.Popen(  # noqa: S603 - a disk of its own
            [*command, str(self._folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if (self._keeper.stdout.readline() if self._keeper.stdout else "") != "mounted\n":
            complaint = self._keeper.communicate()[1].strip()
            raise CannotHereError(f"a small disk cannot be mounted: {complaint}")
        pid = self._keeper.pid
        self._root = Path(f"/proc/{pid}/root{self._folder}")
        self.inside = ["nsenter", f"--target={pid}", "--user", "--preserve-credentials", "--mount"]
        return self

    def __exit__(self, *exc: object) -> None:
        if self._keeper is not None:
            self._keeper.communicate()  # its standard input ends, so it ends, and with it the disk

    def fill(self) -> None:
        """Pictures take what is left."""
        with self._pictures("ab") as file, suppress(OSError):  # no space: that is what is wanted
            while True:
                file.write(PIECE)

    def free(self) -> None:
        """The pictures are deleted."""
        (self._root / "pictures").unlink(missing_ok=True)

    def copy_to(self, folder: Path) -> None:
        """Copy its files, to be read where the disk is not seen."""
        shutil.copytree(self._root, folder, dirs_exist_ok=True)

    def _pictures(self, mode: str) -> IO[bytes]:
        return (self._root / "pictures").open(mode, buffering=0)


class JumpingClock:
    """A wall clock for the processes that have `environment`; nobody else's changes."""

    def __init__(self, folder: Path) -> None:
        """Build it.

        Raises:
            CannotHereError: there is no C compiler, or it failed.
        """
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise CannotHereError("a clock that jumps has to be built and there is no C compiler")
        library = folder / "clock.so"
        built = subprocess.run(  # noqa: S603 - the machine's compiler
            [*compiler.split(), "-std=c11", "-O2", "-fPIC", "-shared", "-o", library, SOURCE],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if built.returncode:
            raise CannotHereError(f"a clock that jumps cannot be built: {built.stderr.strip()}")
        self._file = folder / "clock"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(library), "INSPECTOR_CAMPAIGN_CLOCK": str(self._file)}

    def jump(self, ahead_s: float) -> None:
        """Be so far ahead of the real time from now on, or behind it."""
        with self._file.open("r+b" if self._file.exists() else "w+b", buffering=0) as file:
            file.write(struct.pack("=q", round(ahead_s * 1e9)))
