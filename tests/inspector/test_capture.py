"""Collecting images: what is kept, what is refused, and what a person is shown meanwhile."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from inspector.camera import CameraError, Outage
from inspector.camera.settings import FolderCamera
from inspector.cameras import Meter, Preview
from inspector.capture import capture, write_whole
from inspector.inspection import Frame, Image
from inspector.quality import Screening, quality_of

from .tiny import Clock, write_image


def picture(seed: int, *, blur: float = 0.0) -> Image:
    noise = np.random.default_rng(seed).normal(0, 1, (120, 160)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 2)
    image = np.clip(128 + 300 * grain, 0, 255).astype(np.uint8)
    if blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
    return np.repeat(image[:, :, np.newaxis], 3, axis=2)


@pytest.fixture
def camera(tmp_path: Path) -> FolderCamera:
    """Six good pictures, a blurred one, the same once more, and another good one."""
    folder = tmp_path / "camera"
    folder.mkdir()
    for index in range(6):
        write_image(folder / f"{index}.png", picture(index))
    write_image(folder / "6.png", picture(6, blur=4))
    write_image(folder / "7.png", picture(5))
    write_image(folder / "8.png", picture(8))
    return FolderCamera(kind="folder", folder=folder)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=80)


def test_a_blurred_picture_is_not_kept(camera: FolderCamera, tmp_path: Path) -> None:
    done = capture(camera, tmp_path / "set" / "train" / "good", quiet(), count=100)
    kept = sorted((tmp_path / "set" / "train" / "good").iterdir())
    assert (done.kept, done.refused) == (8, 1)
    assert "blurred" in str(done)
    assert [path.stem.split("-")[1] for path in kept] == ["0", "1", "2", "3", "4", "5", "7", "8"]
    read = cv2.imread(str(kept[0]))
    assert read is not None
    assert np.array_equal(read[:, :, ::-1], picture(0))


def test_all_pictures_are_kept_when_asked_to(camera: FolderCamera, tmp_path: Path) -> None:
    assert capture(camera, tmp_path / "all", quiet(), count=100, keep_all=True).kept == 9


def test_no_more_than_asked_for_and_nothing_is_overwritten(camera: FolderCamera, tmp_path: Path) -> None:
    for _ in range(2):
        assert capture(camera, tmp_path / "good", quiet(), count=3).kept == 3
    assert len(list((tmp_path / "good").iterdir())) == 6


def test_a_full_disk_leaves_no_half_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.png", picture(0))
    assert list(tmp_path.iterdir()) == []


def test_a_camera_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="does not exist"):
        capture(FolderCamera(kind="folder", folder=tmp_path / "none"), tmp_path / "good", quiet(), count=1)


def test_exposure_is_advised_on() -> None:
    assert "lengthen ExposureTime" in quality_of(np.full((9, 9, 1), 4, np.uint8)).advice
    assert "shorten ExposureTime" in quality_of(np.full((9, 9, 3), 255, np.uint8)).advice
    assert quality_of(picture(0)).advice == ""


def test_blur_lowers_sharpness() -> None:
    assert quality_of(picture(0)).sharpness > 4 * quality_of(picture(0, blur=2)).sharpness


def test_a_part_that_stands_still_is_kept_once_where_parts_may() -> None:
    first, noise = picture(0), np.random.default_rng(1).integers(-3, 4, (120, 160, 3))
    again = np.clip(first + noise, 0, 255).astype(np.uint8)
    marked = first.copy()
    marked[40:60, 40:70] += 40
    for may, expected in ((True, ["", "unchanged: the same part as before", ""]), (False, ["", "", ""])):
        screening = Screening(parts_may_stand_still=may)
        assert [screening.objection(image, quality_of(image)) for image in (first, again, marked)] == expected


def test_the_first_pictures_set_what_is_usual() -> None:
    screening = Screening(parts_may_stand_still=True)
    assert screening.objection(picture(0, blur=4), quality_of(picture(0, blur=4))) == ""


def test_a_meter_tells_rate_age_and_losses(clock: Clock) -> None:
    meter = Meter(lambda: clock.now_ns / 1e9)
    for index in range(40):
        clock.now_ns += 100_000_000
        meter.add(Frame(index, f"p{index}", picture(0), 0))
    meter.add(Frame(40, "p40", np.zeros((0, 0, 1), np.uint8), 0))
    assert meter.rate_hz() == pytest.approx(10)
    assert (meter.frames, meter.without_picture) == (40, 1)
    meter.add(Outage("cable"))
    assert meter.outage == "cable"
    clock.now_ns += 10_000_000_000
    assert meter.rate_hz() == 0.0


def test_a_preview_has_two_pixels_a_character() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[:10] = (255, 0, 0)
    console = Console(file=io.StringIO(), width=20, force_terminal=True, color_system="truecolor")
    console.print(Preview(image))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("▀") == 20 * 10
    assert "38;2;255;0;0" in text.splitlines()[0]
    assert "38;2;0;0;0" in text.splitlines()[-1]
