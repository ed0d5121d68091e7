"""A replayed folder: sorted, paced, and nothing is skipped without a word."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.camera import IDLE_S, CameraError, open_camera
from inspector.camera.folder import FolderReplay
from inspector.camera.settings import FolderCamera
from inspector.inspection import Frame

from .tiny import Clock, part, write_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for grey, name in ((30, "c.png"), (10, "a.bmp"), (20, "b.tif")):
        write_image(folder / name, part(grey))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def frames_of(camera: FolderReplay) -> list[Frame]:
    with camera:
        return [frame for frame in camera if frame is not None]


def test_images_come_sorted_by_name(images: Path) -> None:
    frames = frames_of(FolderReplay(images))
    assert [(frame.sequence, frame.part_id, frame.image[0, 0, 0]) for frame in frames] == [
        (0, "a", 10),
        (1, "b", 20),
        (2, "c", 30),
    ]


def test_the_replay_keeps_its_rate_and_shows_that_it_idles(images: Path, clock: Clock) -> None:
    start_ns = clock.now_ns
    with FolderReplay(images, rate_hz=2, clock=clock, sleep=clock.sleep) as camera:
        seen = list(camera)
    captured = [(frame.captured_ns - start_ns) / 1e9 for frame in seen if frame]
    assert captured == pytest.approx([0, 0.5, 1.0], abs=1e-6)
    assert seen.count(None) >= 2 * (0.5 / IDLE_S - 2)


def test_the_replay_waits_for_a_slow_loop_and_does_not_catch_up(images: Path, clock: Clock) -> None:
    captured = []
    with FolderReplay(images, rate_hz=10, clock=clock, sleep=clock.sleep) as camera:
        for frame in camera:
            if frame:
                captured.append(frame.captured_ns)
                clock.sleep(3)
    assert np.diff(captured).tolist() == pytest.approx([3e9, 3e9])


def test_a_loop_starts_again_and_counts_on(images: Path) -> None:
    with FolderReplay(images, loop=True) as camera:
        frames = [frame for frame, _ in zip(camera, range(5), strict=False) if frame]
    assert [frame.part_id for frame in frames] == ["a", "b", "c", "a", "b"]
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_an_unreadable_file_keeps_its_place_without_a_picture(images: Path, damage: bytes | None) -> None:
    path = images / "b.tif"
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    frames = frames_of(FolderReplay(images))
    assert [frame.part_id for frame in frames] == ["a", "b", "c"]
    assert frames[1].image.size == 0


def test_samples_of_twelve_bits_are_shifted_down_to_eight(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 16, 4095, 65535]], np.uint16))
    frames = frames_of(FolderReplay(tmp_path, bit_depth=12))
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image[0, :, 0].tolist() == [0, 1, 255, 255]


def test_colours_come_as_rgb_and_alpha_is_dropped(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.array([[[3, 2, 1, 255]]], np.uint8))  # cv2 writes BGRA
    assert cv2.imwrite(str(tmp_path / "b.png"), np.array([[7]], np.uint8))
    colour, grey = frames_of(FolderReplay(tmp_path))
    assert colour.image.tolist() == [[[1, 2, 3]]]
    assert grey.image.tolist() == [[[7]]]


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_images_names_the_folder(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    with pytest.raises(CameraError, match="empty"), FolderReplay(folder):
        pass


def test_the_station_opens_the_folder_that_it_names(images: Path) -> None:
    with open_camera(FolderCamera(kind="folder", folder=images)) as camera:
        assert len([frame for frame in camera if frame]) == 3
