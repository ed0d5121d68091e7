"""The acquisition process's own parts, without a camera."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from threading import Thread

import numpy as np
import pytest

from inspector.camera import CameraError
from inspector.camera.acquisition import MOST_UNREADABLE, FrameIds, _stream
from inspector.camera.pixels import PixelFormatError
from inspector.camera.settings import GenicamCamera
from inspector.camera.words import Idle, Link, Missing, Opened, Picture, Release, Stop, StopAsked, decode_word, encode


def lost(*ids: int | None) -> list[int]:
    frame_ids = FrameIds()
    return [frame_ids.lost_before(frame_id) for frame_id in ids]


def test_frames_that_were_numbered_and_never_came_are_counted() -> None:
    assert lost(7, 8, 11, 12) == [0, 0, 2, 0]


def test_gige_visions_numbers_begin_again_with_one() -> None:
    assert lost(65534, 65535, 1, 2) == [0, 0, 0, 0]
    assert lost(65534, 3) == [0, 3]  # 65535, 1 and 2


def test_a_camera_that_does_not_count_loses_nothing() -> None:
    assert lost(None, None, None) == [0, 0, 0]
    assert lost(0, 0, 0) == [0, 0, 0]


def test_frames_lost_before_the_first_that_comes_are_counted_where_numbers_begin_anew() -> None:
    assert FrameIds(last=0).lost_before(3) == 2
    assert FrameIds(last=0).lost_before(1) == 0
    assert FrameIds(last=0).lost_before(123_456) == 0  # this camera's numbers go on from its last acquisition


def test_a_camera_that_stops_counting_is_an_error() -> None:
    with pytest.raises(CameraError, match="no longer numbers"):
        lost(4, None)


@pytest.mark.parametrize("ids", [(5, 4), (100_000, 5), (5, 2000)])
def test_numbers_that_cannot_be_are_an_error(ids: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match=f"from {ids[0]} to {ids[1]}"):
        lost(*ids)


@contextmanager
def ring(link: Link, station: Connection, image: np.ndarray) -> Iterator[Opened]:
    with link.ring(image.nbytes, "a camera", "1"):
        opened = decode_word(station.recv_bytes())
        assert isinstance(opened, Opened)
        try:
            yield opened
        finally:
            memory = SharedMemory(opened.memory)
            memory.close()
            memory.unlink()


IMAGE = np.ones((2, 3, 1), np.uint8)


def test_a_slot_is_used_again_only_when_it_was_released() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    with ring(link, station, IMAGE) as opened:
        assert {link.place(IMAGE), link.place(IMAGE)} == {(opened.ring, 0), (opened.ring, 1)}
        assert link.place(IMAGE) is None
        station.send_bytes(encode(Release(opened.ring, 1)))
        link.obey()
        assert link.place(IMAGE) == (opened.ring, 1)


def test_what_is_released_of_an_old_ring_frees_nothing_of_the_new_one() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    with ring(link, station, IMAGE) as old:
        link.place(IMAGE)
    with ring(link, station, IMAGE):
        assert link.place(IMAGE) is not None
        assert link.place(IMAGE) is not None
        station.send_bytes(encode(Release(old.ring, 1)))
        link.obey()
        assert link.place(IMAGE) is None


def test_an_image_larger_than_the_camera_said_is_an_error() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    with ring(link, station, IMAGE), pytest.raises(CameraError, match="changed its image size"):
        link.place(np.ones((2, 4, 1), np.uint8))


def test_a_station_that_does_not_listen_holds_nothing_up_and_misses_no_part() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    for number in range(5000):
        link.send(Missing(1, "lost"))
        link.send(Idle())
        if number % 100 == 0:
            link.send(Missing(2, "late"))
    told = {"lost": 0, "late": 0}
    while sum(told.values()) < 5100:
        link.obey()
        assert station.poll(5)
        word = decode_word(station.recv_bytes())
        if isinstance(word, Missing):
            told[word.why] += word.count
    assert told == {"lost": 5000, "late": 100}


def test_pictures_keep_their_place_among_the_words() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    for slot in range(1000):
        link.send(Picture(1, slot, (2, 3, 1), 0, None))
        link.send(Missing(1, "lost"))
    seen: list[str] = []
    while len(seen) < 2000:
        link.obey()
        word = decode_word(station.recv_bytes())
        seen += [type(word).__name__] * (word.count if isinstance(word, Missing) else 1)
    assert seen == ["Picture", "Missing"] * 1000


def test_what_was_left_unsaid_is_said_while_a_command_is_awaited() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    count = 0
    while not link._unsaid:
        link.send(Picture(1, count, (2, 3, 1), 0, None))
        count += 1
    waiting = Thread(target=link.obey, args=(20.0,))
    waiting.start()
    for number in range(count):
        assert station.poll(5)
        word = decode_word(station.recv_bytes())
        assert isinstance(word, Picture)
        assert word.slot == number
    station.send_bytes(encode(Release(0, 0)))
    waiting.join()


def test_stop_and_a_station_that_is_gone_end_the_acquisition() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    station.send_bytes(encode(Stop()))
    with pytest.raises(StopAsked):
        link.obey()
    station.close()
    with pytest.raises(StopAsked):
        link.obey()


class Unreadable:
    """A camera whose frames come in a format that nobody reads."""

    numbers_from_zero = False

    def grab(self, timeout_s: float) -> None:
        assert timeout_s > 0
        raise PixelFormatError("pixel format Coord3D_C16 cannot be read")


def test_frames_that_cannot_be_read_are_parts_and_soon_an_outage() -> None:
    station, camera = multiprocessing.Pipe()
    config = GenicamCamera(kind="genicam", trigger="hardware")
    with pytest.raises(PixelFormatError, match="Coord3D_C16"):
        _stream(Unreadable(), Link(camera, slots=2), config)  # type: ignore[arg-type]
    words = [decode_word(station.recv_bytes()) for _ in range(MOST_UNREADABLE)]
    assert words == [Missing(1, "unreadable")] * MOST_UNREADABLE
    assert not station.poll(0)
