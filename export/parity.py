"""How far an exported graph is from the trained network, on real images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from export.onnx import OUTPUTS
from inspector.bundle import Parity
from models.detector import Detector

MAP_TOLERANCE = 1e-3  # of a map in 0..1
SCORE_TOLERANCE = 1e-2  # in standard deviations of good images


class ParityError(RuntimeError):
    """The exported graph is not the trained network; it must not be shipped."""


@torch.inference_mode()
def measure(detector: Detector, graph: Path, images: Sequence[npt.NDArray[np.uint8]]) -> Parity:
    """Run both on the images, each (H, W, C) uint8.

    Raises:
        ParityError: they differ by more than rounding.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    map_differences, score_differences = [], []
    for image in images:
        expected_map, expected_score, _ = detector(torch.from_numpy(image))
        anomaly_map, score, _ = session.run(list(OUTPUTS), {"image": image})
        map_differences.append(float(np.abs(anomaly_map - expected_map.numpy()).max()))
        score_differences.append(abs(float(score) - expected_score.item()))
    parity = Parity(
        engine=f"onnxruntime-cpu {onnxruntime.__version__}",
        images=len(images),
        max_map_difference=float(np.max(map_differences)),  # of NaN and numbers: NaN
        max_score_difference=float(np.max(score_differences)),
    )
    if not (parity.max_map_difference <= MAP_TOLERANCE and parity.max_score_difference <= SCORE_TOLERANCE):
        raise ParityError(
            f"the exported graph differs from the trained network: map by {parity.max_map_difference:.2g} "
            f"(allowed {MAP_TOLERANCE}), score by {parity.max_score_difference:.2g} (allowed {SCORE_TOLERANCE}); "
            "no bundle was made"
        )
    return parity
