"""The producer is built once, where it is needed, and says what to do where it cannot be."""

import ctypes
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path

import pytest

import inspector.camera.gentl as simulated
from inspector.camera import CameraError
from inspector.camera.gentl import SOURCE, cache_folder, compiler_command, producer_file

from .client import gentl

FUNCTIONS = re.findall(
    r"\w+",
    """
    GCGetInfo GCGetLastError GCInitLib GCCloseLib GCReadPort GCWritePort GCGetPortURL GCGetPortInfo
    GCRegisterEvent GCUnregisterEvent GCGetNumPortURLs GCGetPortURLInfo GCReadPortStacked GCWritePortStacked
    EventGetData EventGetDataInfo EventGetInfo EventFlush EventKill TLOpen TLClose TLGetInfo TLGetNumInterfaces
    TLGetInterfaceID TLGetInterfaceInfo TLOpenInterface TLUpdateInterfaceList IFClose IFGetInfo IFGetNumDevices
    IFGetDeviceID IFUpdateDeviceList IFGetDeviceInfo IFOpenDevice IFGetParentTL DevGetPort DevGetNumDataStreams
    DevGetDataStreamID DevOpenDataStream DevGetInfo DevClose DevGetParentIF DSAnnounceBuffer
    DSAllocAndAnnounceBuffer DSFlushQueue DSStartAcquisition DSStopAcquisition DSGetInfo DSGetBufferID DSClose
    DSRevokeBuffer DSQueueBuffer DSGetBufferInfo DSGetBufferChunkData DSGetParentDev DSGetNumBufferParts
    DSGetBufferPartInfo DSAnnounceCompositeBuffer DSGetBufferInfoStacked DSGetBufferPartInfoStacked
    DSGetNumFlows DSGetFlowInfo DSGetNumBufferSegments DSGetBufferSegmentInfo
    """,
)


@pytest.fixture
def cached(producer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The producer, in the cache that is asked."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(producer.parent))
    return producer


def test_it_is_built_once(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/bin/false")
    assert producer_file() == cached
    assert [file.suffix for file in cached.parent.iterdir()] == [".cti"]


def test_a_stale_build_is_not_used(cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "producer.c"
    changed.write_text(SOURCE.read_text() + "\n")
    monkeypatch.setattr(simulated, "SOURCE", changed)
    monkeypatch.setenv("CC", "true")
    with pytest.raises(CameraError, match="could not be built"):  # by a compiler that makes nothing
        producer_file()
    monkeypatch.setenv("CC", "sh -c 'while [ $# -gt 1 ]; do [ $1 = -o ] && : > $2; shift; done' compiler")
    assert producer_file() not in {cached, None}


def test_builders_at_the_same_time_do_not_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CC", "sh -c 'while [ $# -gt 1 ]; do [ $1 = -o ] && echo $$ > $2; shift; done' compiler")
    with ThreadPoolExecutor() as pool:
        files = set(pool.map(lambda _: producer_file(), range(8)))
    assert len(files) == 1
    assert list(tmp_path.iterdir()) == list(files)


def test_the_cache_is_systemds_or_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/inspector:/var/cache/other")
    assert cache_folder() == Path("/var/cache/inspector")
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/her/cache")
    assert cache_folder() == Path("/home/her/cache/inspector")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/her")
    assert cache_folder() == Path("/home/her/.cache/inspector")


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CameraError, match=r'no C compiler.*apt install gcc.*kind = "simulator"'):
        producer_file()


def test_a_failing_compiler_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CC", "sh -c 'echo stdatomic.h: no such file >&2; exit 1'")
    with pytest.raises(CameraError, match=r'(?s)kind = "simulator".*stdatomic.h: no such file'):
        producer_file()
    monkeypatch.setenv("CC", str(tmp_path / "gone"))
    with pytest.raises(CameraError, match="gone"):
        producer_file()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("producer")
def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    command = compiler_command(tmp_path / "strict.cti", "-Wall", "-Wextra", "-Werror")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_every_function_of_the_standard_is_there(producer: Path) -> None:
    """A consumer calls what it did not find, and crashes."""
    library = ctypes.CDLL(str(producer))
    assert len(set(FUNCTIONS)) == 64
    assert [name for name in FUNCTIONS if not hasattr(library, name)] == []


def test_the_constants_are_the_standards() -> None:
    lists = [value for value in vars(gentl).values() if isinstance(value, type) and issubclass(value, IntEnum)]
    standard = {name: int(member) for names in lists for name, member in names.__members__.items()}
    text = SOURCE.read_text()
    ours = dict(re.findall(r"\b((?:[A-Z]+_)+[A-Z_]+) = (-?\d+),", text[: text.index("struct __attribute__")]))
    assert len(ours) > 100
    assert {name: int(number) for name, number in ours.items()} == {name: standard[name] for name in ours}
