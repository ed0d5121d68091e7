"""Make the virtual environment and install Inspector into it; plain Python, run before anything is installed.

usage: python3 .ci/install.py [EXTRA ...]     e.g. train dev

Two traps are handled here, because no dependency specifier can: without a GPU, torch must be the CPU build (the other
brings gigabytes of CUDA along); and OpenCV must import on machines without desktop libraries.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
# What only tests run, in folders of the environment that Python does not look into.
ASIDE = {
    # genicam 1.5's simulated camera TLSimu, which 1.6 lacks; only the library is of use, whatever Python it is for.
    "tlsimu": ["--no-deps", "--python-version", "3.11", "--only-binary", ":all:", "genicam==1.5.0"],
    # The Snap7 project's S7 server, a C library that later versions have no more.
    "peers/snap7": ["--no-deps", "python-snap7==2.1.0"],
    # An EtherNet/IP server; under the GPL, so it runs in a process of its own.
    "peers/cpppo": ["cpppo==5.2.5"],
}
TORCH = "torch>=2.11,<2.14"  # as in pyproject.toml
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main(extras: list[str]) -> None:
    """Install the project, editable, with these extras."""
    if not (3, 11) <= sys.version_info < (3, 14):
        sys.exit(f"Inspector needs Python 3.11 to 3.13, this is {sys.version.split()[0]}: make demo PYTHON=python3.12")
    if not is_complete():
        print(f"making {ENVIRONMENT.relative_to(ROOT)}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip("install", "--quiet", "--upgrade", "pip")
    if "train" in extras:
        install_torch()
    print("installing Inspector and what it needs (a minute or two)", flush=True)
    target = f".[{','.join(extras)}]" if extras else "."
    pip("install", "--quiet", "--editable", target)
    repair_opencv()
    if "dev" in extras:
        for folder, options in ASIDE.items():
            put_aside(folder, options)


def is_complete() -> bool:
    """Whether the environment is there, of this Python and with pip: an interrupted set-up leaves half of one."""
    command = [PYTHON, "-c", "import sys, pip; print(*sys.version_info[:2])"]
    found = subprocess.run(command, capture_output=True, text=True, check=False) if PYTHON.exists() else None
    return found is not None and found.stdout.split() == [str(number) for number in sys.version_info[:2]]


def install_torch() -> None:
    """Install the build of torch that fits: CUDA only where there is a GPU."""
    index = [] if has_gpu() or not brings_cuda() else ["--index-url", TORCH_CPU_INDEX]
    print(f"installing torch ({'from the CPU index' if index else 'as found'})", flush=True)
    pip("install", "--quiet", *index, TORCH)


def has_gpu() -> bool:
    """Whether an NVIDIA driver is there."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def brings_cuda() -> bool:
    """Ask pip what it would install for torch, from metadata alone, without installing it."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", TORCH]
    planned = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment()).stdout)[
        "install"
    ]
    needs = [need for package in planned for need in package["metadata"].get("requires_dist", [])]
    return any(need.startswith(("nvidia-", "cuda-")) for need in needs)


def repair_opencv() -> None:
    """Where desktop libraries such as libGL are missing, put the headless build of the same version in its place."""
    if subprocess.run([PYTHON, "-c", "import cv2"], capture_output=True, check=False).returncode == 0:
        return
    command = [PYTHON, "-c", "from importlib.metadata import version; print(version('opencv-python'))"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    print("OpenCV does not import here (no desktop libraries): taking its headless build instead", flush=True)
    pip("uninstall", "--quiet", "--yes", "opencv-python")
    pip("install", "--quiet", "--force-reinstall", "--no-deps", f"opencv-python-headless=={version}")
    subprocess.run([PYTHON, "-c", "import cv2"], check=True)


def put_aside(folder: str, options: list[str]) -> None:
    """Install a package into a folder of its own."""
    target = ENVIRONMENT / folder
    if list(target.glob("*.dist-info")):
        return
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(target), *options]
    if subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode:
        print(f"{options[-1]} is not to be had here: the tests that run it are skipped", flush=True)


def pip(*arguments: str) -> None:
    """Run pip of the environment; its own words are the error message."""
    if subprocess.run([PYTHON, "-m", "pip", *arguments], cwd=ROOT, env=environment(), check=False).returncode:
        sys.exit(f"could not install: see pip's message above (command: pip {' '.join(arguments)})")


def environment() -> dict[str, str]:
    """The caller's environment, with pip silent about itself."""
    return {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


if __name__ == "__main__":
    main(sys.argv[1:])
