"""A tiny product in the MVTec layout: bright discs, of which the anomalous have a hole."""

from pathlib import Path

import cv2
import numpy as np

SIZE = (48, 64)
HOLE, RADIUS = (36, 20), 4


def write_discs(dataset: Path) -> Path:
    """10 good images to learn from, 10 to validate with, 3 to test, and 3 with a hole, with their masks."""
    for split, count in (("train", 10), ("validation", 10), ("test", 3)):
        for index in range(count):
            _write(dataset / f"{split}/good/{index:03d}.png", _disc(1000 * len(split) + index))
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, HOLE, RADIUS, 255, -1)
    for index in range(3):
        holed = _disc(index)
        cv2.circle(holed, HOLE, RADIUS, (30, 20, 20), -1)
        _write(dataset / f"test/hole/{index:03d}.png", holed)
        _write(dataset / f"ground_truth/hole/{index:03d}_mask.png", mask)
    return dataset


def _disc(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((*SIZE, 3))
    pixels = (40 + 4 * noise).astype(np.uint8)
    cv2.circle(pixels, (32, 24), 16, (180, 190, 200), -1)
    return pixels


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
