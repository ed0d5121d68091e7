from pathlib import Path

import cv2
import numpy as np
import pytest

from models import corpus
from models.corpus import photographs, texture, view
from models.data import DataError


def write(path: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels: np.ndarray = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """In colour, grey, and grey with 16 bit; one larger than a view."""
    return [
        write(tmp_path / "a.png", (80, 100, 3)),
        write(tmp_path / "b.png", (640, 70)),
        write(tmp_path / "c.png", (700, 600), np.uint16),
    ]


def test_every_view_has_the_shape_of_one(photos: list[Path]) -> None:
    views = [view(photos, np.random.default_rng(seed)) for seed in range(12)]
    assert {(item.shape, str(item.dtype)) for item in views} == {((512, 512, 3), "uint8")}


def test_the_same_seed_gives_the_same_views_and_another_gives_others(photos: list[Path]) -> None:
    def drawn(seed: int) -> list[corpus.View]:
        rng = np.random.default_rng(seed)
        return [view(photos, rng) for _ in range(4)]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_a_share_of_the_views_is_grey(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "TEXTURE_SHARE", 0.0)
    grey = [np.ptp(view(photos[:1], np.random.default_rng(seed)), axis=2).max() == 0 for seed in range(40)]
    assert 0 < np.mean(grey) < 0.5


def test_textures_are_surfaces_with_something_on_them() -> None:
    textures = [texture(np.random.default_rng(seed)) for seed in range(6)]
    assert {(item.shape, str(item.dtype)) for item in textures} == {((512, 512, 3), "uint8")}
    assert min(item.std(axis=(0, 1)).max() for item in textures) > 5
    assert len({item.tobytes() for item in textures}) == 6


def test_photographs_are_found_in_folders_within_folders(tmp_path: Path) -> None:
    found = [write(tmp_path / name, (64, 64, 3)) for name in ("a.png", "in/b.jpg", "in/deeper/c.png")]
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert photographs(tmp_path) == found


def test_a_folder_without_photographs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path.name} holds no pictures"):
        photographs(tmp_path)


def test_a_photograph_too_small_to_enlarge_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "TEXTURE_SHARE", 0.0)
    small = write(tmp_path / "small.png", (63, 300, 3))
    with pytest.raises(DataError, match=r"small\.png has 300 x 63 pixels"):
        view([small], np.random.default_rng(0))
