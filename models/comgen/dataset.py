"""Writes generated anomalies in the LOCO layout, so that everything that reads a dataset reads them. Makes none."""

import csv
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from models.comgen.generate import Anomaly
from models.data import DataError

TYPE = "logical_anomalies"
COLUMNS = ("file", "defect_types", "prompt_before", "prompt_after", "source", "reference", "seed")


def write_anomalies(anomalies: Iterable[Anomaly], paths: Sequence[Path], out: Path) -> list[Anomaly]:
    """Write images, a mask for each defect, and what was done; the folder appears at the end, whole, if there are any.

    OUT/test/logical_anomalies/000.png, OUT/ground_truth/logical_anomalies/000/000.png, OUT/labels.csv.

    Args:
        anomalies: as they are made.
        paths: of the good images that they were made from.
        out: a folder that does not exist yet.

    Returns:
        what was written.

    Raises:
        DataError: the folder exists, or an image cannot be written.
    """
    if out.exists():
        raise DataError(f"{out} exists: choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
    written = []
    try:
        (unfinished / "test" / TYPE).mkdir(parents=True)
        with (unfinished / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for number, anomaly in enumerate(anomalies):
                rows.writerow(_write(anomaly, number, paths, unfinished))
                written.append(anomaly)
        if written:
            unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


def _write(anomaly: Anomaly, number: int, paths: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """The image and its masks; returns its row."""
    file = f"{TYPE}/{number:03d}.png"
    _write_png(folder / "test" / file, np.ascontiguousarray(anomaly.photo[:, :, ::-1]))
    for index, mask in enumerate(anomaly.masks):
        truth = folder / "ground_truth" / TYPE / f"{number:03d}"
        truth.mkdir(parents=True, exist_ok=True)
        _write_png(truth / f"{index:03d}.png", (255 * mask).astype(np.uint8))
    reference = "" if anomaly.reference is None else paths[anomaly.reference].name
    kind = anomaly.change.replace(" ", "_")
    return file, kind, anomaly.before, anomaly.after, paths[anomaly.source].name, reference, str(anomaly.seed)


def _write_png(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise DataError(f"{path} could not be written: is the disk full?")
