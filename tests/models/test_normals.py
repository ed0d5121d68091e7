from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import DataError
from models.normals import evenly, load_normals
from models.progress import silent


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_many(folder: Path, count: int, shape: tuple[int, ...] = (20, 30, 3), dtype: type = np.uint8) -> None:
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 4000 if dtype is np.uint16 else 255, shape).astype(dtype)
        write(folder / f"{index:03d}.png", image)


def test_without_validation_images_some_are_held_out_and_it_says_so(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 40)
    normals = load_normals(tmp_path, seed=0, progress=silent)
    assert (len(normals.train), len(normals.validation)) == (30, 10)
    assert "held out" in normals.words[0]
    assert not set(normals.paths.train) & set(normals.paths.validation)


def test_a_product_has_its_size_channels_and_bit_depth(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 20, shape=(20, 30), dtype=np.uint16)
    found = load_normals(tmp_path, seed=0, progress=silent).format
    assert (found.height, found.width, found.channels, found.bit_depth) == (20, 30, 1, 12)


def test_mixed_sizes_are_taken_with_a_word(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 20)
    write(tmp_path / "train/good/other.png", np.zeros((50, 40, 3), np.uint8))
    normals = load_normals(tmp_path, seed=0, progress=silent)
    assert normals.format.height is None
    assert any("2 sizes" in word for word in normals.words)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 12)
    with pytest.raises(DataError, match="12 good images: too few"):
        load_normals(tmp_path, seed=0, progress=silent)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 20)
    (tmp_path / "train/good/007.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"007\.png"):
        load_normals(tmp_path, seed=0, progress=silent)


def test_the_fingerprint_changes_with_any_image_learned_from_and_with_no_other(tmp_path: Path) -> None:
    write_many(tmp_path / "train/good", 20)
    first = load_normals(tmp_path, seed=0, progress=silent).fingerprint
    (tmp_path / "test/scratch").mkdir(parents=True)
    (tmp_path / "test/scratch/000.png").write_bytes(b"whoever reads this while training fails")
    (tmp_path / "ground_truth").mkdir()
    assert load_normals(tmp_path, seed=0, progress=silent).fingerprint == first
    write(tmp_path / "train/good/003.png", np.zeros((20, 30, 3), np.uint8))
    assert load_normals(tmp_path, seed=0, progress=silent).fingerprint != first


def test_all_images_are_taken_when_they_are_few() -> None:
    assert evenly(275, 400) == list(range(275))


def test_of_many_images_just_so_many_are_taken_from_all_over() -> None:
    chosen = evenly(1000, 400)
    assert len(set(chosen)) == 400
    assert (chosen[0], chosen[-1]) == (0, 999)
