"""Video files are replayed for real; a USB camera that is unplugged is played by a double of OpenCV's capture."""

import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.camera import CameraError, Outage, open_camera
from inspector.camera.settings import VideoCamera
from inspector.camera.video import VideoFeed
from inspector.inspection import Frame

from .tiny import Clock


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames at 20 a second, each of one grey, from dark to light."""
    path = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for index in range(10):
        writer.write(np.full((48, 64, 3), (20 * index, 20 * index, 20 * index + 30), np.uint8))
    writer.release()
    return path


def test_a_file_is_replayed_at_its_own_rate_and_ends(video: Path, clock: Clock) -> None:
    feed = VideoFeed(VideoCamera(kind="video", file=video), clock=clock, sleep=clock.sleep)
    with feed:
        frames = [event for event in feed if isinstance(event, Frame)]
    assert [frame.part_id for frame in frames] == [f"belt-{index:06d}" for index in range(10)]
    assert frames[-1].captured_ns - frames[0].captured_ns == 9 * 50_000_000
    red, green, blue = frames[5].image.mean(axis=(0, 1))
    assert red > green + 15
    assert abs(green - blue) < 5


def test_a_file_starts_again_when_asked_to(video: Path, clock: Clock) -> None:
    config = VideoCamera(kind="video", file=video, loop=True, rate_hz=1000)
    with VideoFeed(config, clock=clock, sleep=clock.sleep) as feed:
        frames = list(islice((event for event in feed if isinstance(event, Frame)), 25))
    assert frames[24].sequence == 24
    assert np.array_equal(frames[0].image, frames[20].image)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.avi").write_text("no video")
    with (
        pytest.raises(CameraError, match=r"notes\.avi is no video that can be read"),
        open_camera(VideoCamera(kind="video", file=tmp_path / "notes.avi")),
    ):
        pass


class Unplugged:
    """A USB camera that gives two frames, is away for two attempts, and is there again."""

    def __init__(self) -> None:
        self.opened = 0
        self.frames = 0

    def __call__(self, source: str | int) -> "Unplugged":
        assert source == 3
        self.opened += 1
        self.frames = 2
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened not in {2, 3}

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.03)
        self.frames -= 1
        return (True, np.zeros((4, 4, 3), np.uint8)) if self.frames >= 0 else (False, None)

    def set(self, key: int, value: float) -> bool:
        return key == cv2.CAP_PROP_BUFFERSIZE and value == 1

    def release(self) -> None:
        pass


def test_a_usb_camera_that_is_unplugged_is_away_until_it_is_back(clock: Clock) -> None:
    config = VideoCamera(kind="video", device=3)
    with VideoFeed(config, clock=clock, sleep=clock.sleep, open_video=Unplugged()) as feed:  # type: ignore[arg-type]
        seen = list(islice((event for event in feed if event is not None), 38))
    kinds = [type(event) for event in seen]
    lost, back = kinds.index(Outage), kinds.index(Frame, kinds.index(Outage))
    assert set(kinds[:lost]) == {Frame}
    assert set(kinds[lost:back]) == {Outage}
    assert 25 <= back - lost <= 35  # ten times a second, over three attempts
    outage = seen[lost]
    assert isinstance(outage, Outage)
    assert "USB camera 3 is not there: plug it in" in outage.reason
    sequences = [event.sequence for event in seen if isinstance(event, Frame)]
    assert sequences == list(range(len(sequences)))


def test_a_slow_station_gets_the_newest_frame(clock: Clock) -> None:
    class Counting(Unplugged):
        def read(self) -> tuple[bool, np.ndarray | None]:
            time.sleep(0.005)
            self.frames += 1
            return True, np.full((4, 4, 3), self.frames, np.uint8)

    with VideoFeed(VideoCamera(kind="video", device=3), clock=clock, open_video=Counting()) as feed:  # type: ignore[arg-type]
        events = (event for event in feed if isinstance(event, Frame))
        next(events)
        time.sleep(0.2)
        assert next(events).image[0, 0, 0] > 20


def test_a_file_that_decodes_to_nothing_does_not_start_again_for_ever(video: Path, clock: Clock) -> None:
    class Blank(Unplugged):
        def __call__(self, source: str | int) -> "Blank":
            assert source == str(video)
            return self

        def read(self) -> tuple[bool, np.ndarray | None]:
            return False, None

        def get(self, key: int) -> float:
            return float(key)

    config = VideoCamera(kind="video", file=video, loop=True)
    with (
        VideoFeed(config, clock=clock, open_video=Blank()) as feed,  # type: ignore[arg-type]
        pytest.raises(CameraError, match="cannot be started again"),
    ):
        next(iter(feed))


@pytest.mark.parametrize("source", [{}, {"file": "a.avi", "device": 0}])
def test_a_video_camera_has_one_source(source: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs either file or device"):
        VideoCamera.model_validate({"kind": "video", **source})
