"""The acquisition process's own parts, without a camera."""

import multiprocessing

import msgspec
import numpy as np
import pytest

from inspector.camera import CameraError
from inspector.camera.acquisition import FrameIds, Link, Release, Stop, _Stopped

encode = msgspec.msgpack.Encoder().encode


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


@pytest.mark.parametrize("ids", [(5, 4), (100_000, 5), (5, 2000)])
def test_numbers_that_cannot_be_are_an_error(ids: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match=f"from {ids[0]} to {ids[1]}"):
        lost(*ids)


def test_a_slot_is_used_again_only_when_it_was_released() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    image = np.ones((2, 3, 1), np.uint8)
    with link.ring(image.nbytes):
        slots = {link.place(image), link.place(image)}
        assert slots == {0, 1}
        assert link.place(image) is None
        station.send_bytes(encode(Release(1)))
        link.obey()
        assert link.place(image) == 1


def test_an_image_larger_than_the_camera_said_is_an_error() -> None:
    _, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    with link.ring(6), pytest.raises(CameraError, match="changed its image size"):
        link.place(np.ones((2, 4, 1), np.uint8))


def test_stop_and_a_station_that_is_gone_end_the_acquisition() -> None:
    station, camera = multiprocessing.Pipe()
    link = Link(camera, slots=2)
    station.send_bytes(encode(Stop()))
    with pytest.raises(_Stopped):
        link.obey()
    station.close()
    with pytest.raises(_Stopped):
        link.obey()
