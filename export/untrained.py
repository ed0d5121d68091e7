"""A bundle of the product's real size that has learned nothing: for measuring speed where no product is trained yet."""

from pathlib import Path

import cv2
import numpy as np
import torch

from export.package import package
from inspector.bundle import Bundle
from models.data import NormalImages
from models.detector import Detector
from models.normals import ImageFormat
from models.threshold import choose_threshold
from models.trained import Record, Trained, TrainSettings


def untrained_bundle(folder: Path, *, height: int, width: int) -> Bundle:
    """Make `folder`/untrained.bundle, for RGB frames of this size: random weights, the same arithmetic."""
    images = tuple(_noise(folder / f"noise{index}" / "train" / "good" / "0.png", height, width) for index in range(2))
    torch.manual_seed(0)
    scores = np.linspace(0, 1, 10)
    record = Record(
        product="untrained",
        settings=TrainSettings(budget="demo"),
        images=NormalImages(train=images, validation=images),
        format=ImageFormat(height=height, width=width, channels=3, bit_depth=8),
        fingerprint="none",
        threshold=choose_threshold(scores, target=0.01, confidence=0.95),
        validation_scores=tuple(scores.tolist()),
        seconds=0.0,
        words=(),
    )
    return package(Trained(Detector().eval(), record), folder / "untrained.bundle")


def _noise(path: Path, height: int, width: int) -> Path:
    path.parent.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path
