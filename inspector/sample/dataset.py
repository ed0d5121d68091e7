"""The sample product as a data set in the LOCO layout: good parts to learn from, faulty ones with their pixel masks."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspector.inspection import Image
from inspector.sample.part import FAULTS, Defect, render

Progress = Callable[[int, int], None]  # images written, images in all

# How many marked pixels a detector must find for full credit: the size of the part that is missing, extra or moved,
# or of the icon that does not match. Faults that are not listed are to be found whole.
_SATURATION = {
    "missing_bolt": 2200,
    "missing_washer": 2200,
    "missing_spring": 5700,
    "missing_label": 14700,
    "extra_bolt": 2200,
    "extra_washer": 2200,
    "swapped_spring_and_bolt": 7900,
    "misplaced_bolt": 2200,
    "misplaced_washer": 2200,
    "wrong_pairing": 1500,
}
_PIXEL_VALUES = {name: 255 - number for number, name in enumerate(FAULTS)}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image to be written: where, of which fault, from which seed."""

    file: str  # without .png
    fault: str | None
    seed: int


def write_dataset(
    folder: Path,
    *,
    train: int,
    validation: int,
    test_good: int,
    per_fault: int,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Write the counts given of good images, and `per_fault` test images of every one of `FAULTS`.

    Beside the LOCO layout's folders, `components` holds the true component numbers of the images to learn from.

    The folder appears at the end, whole; an interrupted run leaves nothing.

    Raises:
        FileExistsError: the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty; choose another folder or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    try:
        _write(unfinished, list(_plan(train, validation, test_good, per_fault, seed)), progress)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _plan(train: int, validation: int, test_good: int, per_fault: int, seed: int) -> Iterator[_Entry]:
    """Every image of the data set, each from a seed of its own."""
    number = seed * 1_000_000
    for split, count in (("train/good", train), ("validation/good", validation), ("test/good", test_good)):
        for index in range(count):
            yield _Entry(f"{split}/{index:03d}", None, number)
            number += 1
    written = {"logical": 0, "structural": 0}
    for fault, kind in FAULTS.items():
        for _ in range(per_fault):
            yield _Entry(f"test/{kind}_anomalies/{written[kind]:03d}", fault, number)
            written[kind] += 1
            number += 1


def _write(folder: Path, plan: list[_Entry], progress: Progress | None) -> None:
    folder.mkdir()
    for done, entry in enumerate(plan, start=1):
        part = render(entry.seed, entry.fault)
        _write_png(folder / f"{entry.file}.png", np.ascontiguousarray(part.image[..., ::-1]))
        if not entry.file.startswith("test/"):
            _write_png(folder / "components" / f"{entry.file}.png", part.components)
        for index, defect in enumerate(part.defects):
            truth = folder / "ground_truth" / Path(entry.file).relative_to("test")
            _write_png(truth / f"{index:03d}.png", _loco_mask(defect))
        if progress:
            progress(done, len(plan))
    _write_labels(folder / "labels.csv", plan)
    (folder / "defects_config.json").write_text(json.dumps(_defects_config(), indent=1) + "\n", encoding="utf-8")


def _write_labels(file: Path, plan: list[_Entry]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("file", "defect_types"))
        rows.writerows((f"{entry.file}.png", entry.fault) for entry in plan if entry.fault)


def _defects_config() -> list[dict[str, str | int | float | bool]]:
    """LOCO's table of defects: the pixel value in the masks, and how much of it must be found."""
    return [
        {
            "defect_name": name,
            "pixel_value": value,
            "saturation_threshold": _SATURATION.get(name, 1.0),
            "relative_saturation": name not in _SATURATION,
        }
        for name, value in _PIXEL_VALUES.items()
    ]


def _loco_mask(defect: Defect) -> Image:
    """(512, 640) the defect's pixel value on its pixels, 0 elsewhere."""
    return defect.mask.astype(np.uint8) * np.uint8(_PIXEL_VALUES[defect.name])


def _write_png(file: Path, pixels: Image) -> None:
    """Write grey or BGR pixels, making the folders on the way."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), pixels):
        raise OSError(f"{file} could not be written; is the disk full?")
