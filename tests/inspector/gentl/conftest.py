"""The producer, built once, and a folder of stages that no other camera on this machine is in."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.camera.gentl import producer_file


@pytest.fixture(scope="session")
def producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not os.environ.get("CC") and not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("there is no C compiler on this machine to build the simulated camera: apt install gcc libc6-dev")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("cache")))
        return producer_file()


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="inspector-test-", dir="/dev/shm") as folder:
        monkeypatch.setenv("INSPECTOR_STAGES", folder)
        yield Path(folder)


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Harvesters takes the interrupt signal for itself."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
