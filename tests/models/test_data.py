from pathlib import Path

import cv2
import numpy as np
import pytest

from models import data
from models.data import DataError


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def write_grey(path: Path) -> Path:
    return write(path, np.full((4, 6), 100, np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_colour_image_is_read_as_rgb_in_its_own_bit_depth(tmp_path: Path, dtype: type, suffix: str) -> None:
    rgb = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (5, 7, 3)).astype(dtype)
    image = data.read_image(write(tmp_path / f"ü-部品{suffix}", rgb[:, :, ::-1]))
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, rgb)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_image_keeps_one_channel(tmp_path: Path, dtype: type) -> None:
    grey = np.arange(35).reshape(5, 7).astype(dtype)
    image = data.read_image(write(tmp_path / "grey.PNG", grey))
    np.testing.assert_array_equal(image, grey[:, :, None])


def test_alpha_is_dropped(tmp_path: Path) -> None:
    bgra = np.random.default_rng(0).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    image = data.read_image(write(tmp_path / "alpha.png", bgra))
    np.testing.assert_array_equal(image, bgra[:, :, 2::-1])


def test_a_rotation_noted_in_the_file_is_ignored(tmp_path: Path) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    one_entry = b"\x01\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00" + bytes(4)  # orientation 6
    exif = b"Exif\0\0II*\0\x08\0\0\0" + one_entry
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert data.read_image(path).shape == (4, 6, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"cut{suffix}", np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut.* is damaged"):
        data.read_image(path)


def test_an_empty_or_missing_or_float_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    write(tmp_path / "float.tif", np.zeros((4, 4), np.float32))
    for name in ("empty.png", "missing.png", "float.tif"):
        with pytest.raises(DataError, match=name):
            data.read_image(tmp_path / name)


def test_more_than_eight_bits_are_shifted_down() -> None:
    twelve = np.array([[[0], [16], [4095], [8000]]], np.uint16)
    assert data.to_uint8(twelve, 12).ravel().tolist() == [0, 1, 255, 255]
    assert data.to_uint8(np.array([[[65535], [256]]], np.uint16), 16).ravel().tolist() == [255, 1]
    assert data.to_uint8(np.array([[[300], [7]]], np.uint16), 8).ravel().tolist() == [255, 7]
    assert data.to_uint8(np.array([[[255]]], np.uint8), 12).ravel().tolist() == [255]


def test_image_files_are_sorted_and_hidden_ones_ignored(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.tiff", ".hidden.png"):
        write_grey(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in data.image_files(tmp_path)] == ["a.jpeg", "b.PNG", "c.tiff"]
    assert data.image_files(tmp_path / "nowhere") == []


def test_normal_images_come_from_train_and_validation_good_only(tmp_path: Path) -> None:
    train = write_grey(tmp_path / "train/good/000.png")
    validation = write_grey(tmp_path / "validation/good/001.png")
    write_grey(tmp_path / "train/bad/002.png")
    write_grey(tmp_path / "test/good/003.png")
    assert data.normal_images(tmp_path) == data.NormalImages((train,), (validation,))


def test_a_dataset_without_validation_has_an_empty_one(tmp_path: Path) -> None:
    write_grey(tmp_path / "train/good/000.png")
    assert data.normal_images(tmp_path).validation == ()


def test_a_missing_or_empty_train_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train/good does not exist: put images of good parts there"):
        data.normal_images(tmp_path)
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train/good holds no image"):
        data.normal_images(tmp_path)


def test_the_same_seed_holds_out_the_same_images() -> None:
    paths = [Path(f"{index:03}.png") for index in range(100)]
    held = data.hold_out(paths, 0.2, seed=3)
    assert held == data.hold_out(paths, 0.2, seed=3)
    assert held != data.hold_out(paths, 0.2, seed=4)
    assert len(held.validation) == 20
    assert sorted(held.train + held.validation) == paths


def test_few_images_hold_out_a_minimum_but_never_more_than_half() -> None:
    paths = [Path(f"{index}.png") for index in range(30)]
    assert len(data.hold_out(paths, 0.1, seed=0).validation) == 10
    assert len(data.hold_out(paths[:5], 0.1, seed=0).validation) == 2
    with pytest.raises(DataError, match="too few"):
        data.hold_out(paths[:1], 0.1, seed=0)


def test_the_mvtec_layout_has_one_mask_an_image(tmp_path: Path) -> None:
    write_grey(tmp_path / "test/good/000.png")
    write_grey(tmp_path / "test/hole/000.png")
    write_grey(tmp_path / "test/scratch/000.jpg")
    suffixed = write_grey(tmp_path / "ground_truth/hole/000_mask.png")
    plain = write_grey(tmp_path / "ground_truth/scratch/000.png")
    images = data.test_images(tmp_path)
    assert [(image.type, image.masks) for image in images] == [
        ("good", ()),
        ("hole", (suffixed,)),
        ("scratch", (plain,)),
    ]
    assert [image.is_good for image in images] == [True, False, False]
    assert not any(image.mask_per_defect for image in images)


def test_the_loco_layout_has_a_mask_a_defect_and_finer_types(tmp_path: Path) -> None:
    write_grey(tmp_path / "test/logical_anomalies/000.png")
    masks = tuple(write_grey(tmp_path / f"ground_truth/logical_anomalies/000/{n:03}.png") for n in range(2))
    (tmp_path / "labels.csv").write_text(
        "file,official_index,defect_types\ntest/logical_anomalies/000.png,0,missing_cap+wrong_fill\n"
    )
    (image,) = data.test_images(tmp_path)
    assert image.masks == masks
    assert image.mask_per_defect
    assert image.defect_types == ("missing_cap", "wrong_fill")


def test_a_dataset_without_ground_truth_has_no_masks(tmp_path: Path) -> None:
    write_grey(tmp_path / "test/hole/000.png")
    assert data.test_images(tmp_path)[0].masks == ()


def test_malformed_test_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test holds no images"):
        data.test_images(tmp_path)
    write_grey(tmp_path / "test/hole/000.png")
    write_grey(tmp_path / "ground_truth/hole/001_mask.png")
    with pytest.raises(DataError, match=r"test/hole/000.png has no mask"):
        data.test_images(tmp_path)
    write_grey(tmp_path / "test/hole/000.bmp")
    with pytest.raises(DataError, match=r"000.png and 000.bmp differ only"):
        data.test_images(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,kind\ntest/hole/000.png,deep\n", "labels.csv line 2: needs the columns"),
        (b"file,defect_types\ntest/hole/000.png\n", "labels.csv line 2: needs the columns"),
        (b"file,defect_types\n\xff\xfe\n", "labels.csv cannot be read"),
    ],
)
def test_a_malformed_labels_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    write_grey(tmp_path / "test/hole/000.png")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.test_images(tmp_path)
