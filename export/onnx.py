"""From the trained detector to one ONNX graph: uint8 image in; anomaly map, image score and its parts out."""

import logging
import warnings
from pathlib import Path

import onnx
import torch

from models.detector import Detector
from models.normals import ImageFormat
from models.resize import SIDES

OPSET = 18
INPUTS = ("image",)
OUTPUTS = ("anomaly_map", "score", "parts")


def export_onnx(detector: Detector, image_format: ImageFormat, path: Path) -> None:
    """Write the detector as one self-contained ONNX file that takes images of any height and width.

    Args:
        detector: trained and calibrated.
        image_format: gives the number of channels, and an example size.
        path: the file to write.
    """
    shape = (image_format.height or 256, image_format.width or 256, image_format.channels)
    height, width = (torch.export.Dim(name, min=SIDES[0], max=SIDES[1]) for name in ("height", "width"))
    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        program = torch.onnx.export(
            detector.eval().to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            (torch.zeros(shape, dtype=torch.uint8),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes={"image": {0: height, 1: width}},
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(path, external_data=False)
    onnx.checker.check_model(path, full_check=True)


class _quiet:  # noqa: N801 - reads as a statement
    """Silences a logger below errors while the exporter runs."""

    def __init__(self, name: str) -> None:
        self.logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *exc: object) -> None:
        self.logger.setLevel(self.level)
