"""The camera path with GenTL producers that others wrote: viky (genicam 1.6) and TLSimu (genicam 1.5)."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from inspector.camera import CameraError, Event
from inspector.camera.genicam import GenicamFeed
from inspector.camera.settings import GenicamCamera
from inspector.inspection import Frame

TLSIMU = Path(sys.prefix) / "tlsimu" / "genicam" / "TLSimu.cti"  # .ci/install.py puts it there


@pytest.fixture
def viky() -> Path:
    spec = find_spec("genicam")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("viky.cti")


@pytest.fixture
def tlsimu() -> Path:
    if not TLSIMU.exists():
        pytest.skip(f"{TLSIMU} is missing: python3 .ci/install.py train dev puts it there")
    return TLSIMU


def camera(producer: Path, **settings: object) -> GenicamCamera:
    return GenicamCamera.model_validate({"kind": "genicam", "producer": producer, **settings})


@contextmanager
def events(config: GenicamCamera) -> Iterator[Iterator[Event]]:
    with GenicamFeed(config) as feed:
        yield iter(feed)


def frames(arriving: Iterator[Event], count: int) -> list[Frame]:
    return list(islice((event for event in arriving if isinstance(event, Frame)), count))


@pytest.mark.parametrize(("pixel_format", "channels"), [("Mono8", 1), ("RGBa8", 3)])
def test_viky_in_free_run(viky: Path, pixel_format: str, channels: int) -> None:
    config = camera(
        viky, serial="1", trigger="free-run", rate_hz=50,
        features={"PixelFormat": pixel_format, "Width": 320, "Height": 240},
    )  # fmt: skip
    begun_ns = time.monotonic_ns()
    with events(config) as arriving:
        seen = frames(arriving, 20)
    assert [frame.sequence for frame in seen] == list(range(20))
    assert {frame.image.shape for frame in seen} == {(240, 320, channels)}
    assert seen[0].part_id == "1-000000"
    # Not one after the other: a frame that had to wait on a busy machine counts as older than it may be.
    assert all(begun_ns < frame.captured_ns <= time.monotonic_ns() for frame in seen)
    assert seen[0].captured_ns < seen[-1].captured_ns


@pytest.mark.parametrize(("serial", "channels"), [("SN_InterfaceA_0", 1), ("SN_InterfaceA_1", 3)])
def test_tlsimu_with_software_triggers(tlsimu: Path, serial: str, channels: int) -> None:
    """Its two cameras are grey and coloured whatever PixelFormat says: a frame's own word for its format counts."""
    with events(camera(tlsimu, serial=serial, trigger="software", rate_hz=100)) as arriving:
        seen = frames(arriving, 20)
    assert [frame.sequence for frame in seen] == list(range(20))
    assert {frame.image.shape[2] for frame in seen} == {channels}
    assert all(frame.image.std() > 1 for frame in seen)


def test_tlsimu_is_idle_while_no_trigger_comes(tlsimu: Path) -> None:
    config = camera(tlsimu, serial="SN_InterfaceB_0", trigger="software", rate_hz=0.5)
    with events(config) as arriving:
        first = next(event for event in arriving if event is not None)
        assert isinstance(first, Frame)
        assert [next(arriving) for _ in range(5)] == [None] * 5


def test_several_cameras_must_be_told_apart(viky: Path) -> None:
    with (
        pytest.raises(CameraError, match=r"3 cameras fit a station that names none: set camera\.serial"),
        events(camera(viky, trigger="free-run")),
    ):
        pass


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"serial": "9"}, 'no camera with serial "9": there are Machine Vision Games'),
        ({"trigger": "software", "rate_hz": 1}, 'it has no trigger: set camera.trigger = "free-run"'),
        (
            {"features": {"Width": 99_999}},
            "Width = 99999 is not taken: allowed are whole numbers from 100",
        ),
        ({"features": {"PixelFormat": "Mono9"}}, "PixelFormat = 'Mono9' is not taken: allowed are RGBa8, Mono8"),
        ({"features": {"Widht": 200}}, "the camera has no feature Widht: did you mean Width?"),
        ({"features": {"PayloadSize": 3}}, "PayloadSize cannot be written"),
        ({"features": {"Width": 200.5}}, "Width = 200.5 is not taken: allowed are whole numbers from 100 to 800"),
        ({"rate_hz": 100_000}, "AcquisitionFrameRate = 100000.0 is not taken: allowed are 1 to 200 Hz"),
    ],
)
def test_what_a_camera_does_not_take_is_refused_with_what_it_does(
    viky: Path, settings: dict[str, object], says: str
) -> None:
    with (
        pytest.raises(CameraError) as caught,
        events(camera(viky, **({"serial": "1", "trigger": "free-run"} | settings))),
    ):
        pass
    assert says in str(caught.value)


def test_a_producer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(CameraError, match=r"GenTL producer .*none\.cti does not exist"),
        events(camera(tmp_path / "none.cti")),
    ):
        pass


def test_a_file_that_is_no_producer_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.cti").write_bytes(b"no library")
    with (
        pytest.raises(CameraError, match=r"broken\.cti finds no camera: .*\("),
        events(camera(tmp_path / "broken.cti")),
    ):
        pass
