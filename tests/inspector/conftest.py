"""A tiny real bundle, a clock that is told what to do, and a bus in a short folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.bundle import Bundle, load_bundle
from inspector.station import Bus

from .tiny import Clock, build_bundle


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    return build_bundle(tmp_path / "tiny.bundle")


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture
def bus() -> Iterator[Bus]:
    with tempfile.TemporaryDirectory(prefix="insp-") as folder:  # an ipc path may not be longer than 107 bytes
        yield Bus.model_validate({topic: f"ipc://{folder}/{topic}" for topic in Bus.model_fields})
