"""The rendered sample product: the same seed gives the same part, and the truth about a fault is where it shows."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.sample import COMPONENTS, FAULTS, render, write_dataset


def test_the_same_seed_gives_the_same_part() -> None:
    first, second = render(7, "extra_washer"), render(7, "extra_washer")
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.components, second.components)
    assert np.array_equal(first.defects[0].mask, second.defects[0].mask)


def test_another_seed_gives_another_part() -> None:
    assert not np.array_equal(render(7).image, render(8).image)


def test_a_good_part_has_every_component_and_no_defect() -> None:
    part = render(3)
    assert part.image.shape == (512, 640, 3)
    assert part.image.dtype == np.uint8
    assert part.fault is None
    assert part.defects == ()
    assert set(np.unique(part.components)) == set(range(len(COMPONENTS)))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_the_image_where_its_mask_says(fault: str) -> None:
    good, faulty = render(11), render(11, fault)
    changed = np.abs(faulty.image.astype(np.int16) - good.image).max(axis=2) > 12
    (defect,) = faulty.defects
    assert defect.name == faulty.fault == fault
    assert changed.any()
    assert (changed & defect.mask).sum() >= 0.2 * min(defect.mask.sum(), changed.sum())
    assert defect.mask.mean() < 0.2


@pytest.mark.parametrize("fault", ["scratched_tray", "fibre", "wrong_pairing", "dented_tray", "cracked_vial"])
def test_nothing_but_the_fault_differs_from_the_good_part(fault: str) -> None:
    good, faulty = render(5), render(5, fault)
    changed = np.abs(faulty.image.astype(np.int16) - good.image).max(axis=2) > 12
    near = cv2.dilate(faulty.defects[0].mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    assert (changed & ~near).sum() < 20


def test_a_missing_bolt_is_missing_from_the_components() -> None:
    bolt = COMPONENTS.index("bolt")
    assert (render(2, "missing_bolt").components == bolt).sum() < 0.6 * (render(2).components == bolt).sum()


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'rust'"):
        render(0, "rust")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    write_dataset(folder, train=2, validation=1, test_good=1, per_fault=1, seed=1)
    return folder


def test_a_dataset_has_the_loco_layout(dataset: Path) -> None:
    kinds = list(FAULTS.values())
    counts = {
        "train/good": 2,
        "validation/good": 1,
        "test/good": 1,
        "test/logical_anomalies": kinds.count("logical"),
        "test/structural_anomalies": kinds.count("structural"),
    }
    assert {name: len(list((dataset / name).glob("*.png"))) for name in counts} == counts
    assert [path.name for path in dataset.parent.iterdir()] == [dataset.name]


def test_every_labelled_image_has_a_mask_of_its_defect(dataset: Path) -> None:
    config = json.loads((dataset / "defects_config.json").read_text())
    values = {entry["defect_name"]: entry["pixel_value"] for entry in config}
    with (dataset / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["defect_types"] for row in rows} == set(FAULTS)
    for row in rows:
        _, kind, name = Path(row["file"]).parts
        mask = cv2.imread(str(dataset / "ground_truth" / kind / Path(name).stem / "000.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        assert set(np.unique(mask)) == {0, values[row["defect_types"]]}
        assert kind == f"{FAULTS[row['defect_types']]}_anomalies"


def test_the_images_of_a_dataset_are_all_different(dataset: Path) -> None:
    images = {path.read_bytes() for path in dataset.glob("t*/*/*.png")}
    assert len(images) == 2 + 1 + len(FAULTS)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty"):
        write_dataset(tmp_path, train=1, validation=0, test_good=0, per_fault=0, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_dataset_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "sample", train=2, validation=0, test_good=0, per_fault=0, seed=0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
