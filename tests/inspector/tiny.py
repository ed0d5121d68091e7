"""Test doubles that are real: a bundle with a graph of ten nodes, a line without waiting, a clock told what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inspector.bundle import (
    MODEL,
    SELF_TEST_IMAGE,
    DataFingerprint,
    InputSpec,
    Manifest,
    Parity,
    SelfTest,
    Threshold,
    Training,
    hash_files,
    write_manifest,
)
from inspector.inspection import Frame, Image

SIZE = 32
MAP = 8
GOOD_GREY = 100


def tiny_graph(channels: int = 3, *, version: int = 18, map_name: str = "anomaly_map") -> onnx.ModelProto:
    """Make a network whose map is |pixel - 100| / 100, averaged to 8 x 8, and whose score is the map's maximum."""
    constants = {
        "normal": np.float32(GOOD_GREY),
        "scale": np.float32(1 / GOOD_GREY),
        "first": np.array([0], np.int64),
        "last": np.array([-1], np.int64),
        "sizes": np.array([1, 1, MAP, MAP], np.int64),
        "plane": np.array([MAP, MAP], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "normal"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["difference"]),
        helper.make_node("Mul", ["difference", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "last"], ["grey"], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "batch"], ["grey4"]),
        helper.make_node("Resize", ["grey4", "", "", "sizes"], ["map4"], mode="linear", antialias=1),
        helper.make_node("Reshape", ["map4", "plane"], [map_name]),
        helper.make_node("ReduceMax", [map_name], ["score"], keepdims=0),
        helper.make_node("Reshape", ["score", "one"], ["parts"]),
    ]
    constants["batch"] = np.array([0, 1], np.int64)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", channels])],
        [
            helper.make_tensor_value_info(map_name, TensorProto.FLOAT, [MAP, MAP]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("parts", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def tiny_manifest(folder: Path, **changes: object) -> Manifest:
    """Vouch for the files in the folder."""
    known = {
        "format": "inspector-bundle",
        "format_version": 1,
        "product": "tiny",
        "created": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "files": hash_files(folder),
        "input": InputSpec(height=SIZE, width=SIZE, channels=3, bit_depth=8),
        "map_height": MAP,
        "map_width": MAP,
        "parts": ("difference",),
        "threshold": Threshold(
            value=0.5,
            false_reject_target=0.01,
            confidence=0.95,
            method="by hand",
            validation_images=10,
            shown_false_reject_rate=0.26,
        ),
        "parity": Parity(engine="onnxruntime-cpu", images=1, max_map_difference=0.0, max_score_difference=0.0),
        "self_test": SelfTest(image=SELF_TEST_IMAGE, score=0.2, tolerance=1e-4),
        "data": DataFingerprint(dataset="none", train_images=1, validation_images=1, sha256="0" * 64),
        "training": Training(method="none", budget="5min", seed=0, iterations=0, seconds=0.0),
        "metrics": {},
        "versions": {},
    }
    return Manifest.model_validate(known | changes)


def build_bundle(folder: Path, model: onnx.ModelProto | None = None, **changes: object) -> Path:
    """Write a whole bundle; its self-test image is 20 % brighter than a good part."""
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes((model or tiny_graph()).SerializeToString())
    write_image(folder / SELF_TEST_IMAGE, part(120))
    write_manifest(folder, tiny_manifest(folder, **changes))
    return folder


def part(grey: int, *, defect: int | None = None, channels: int = 3) -> Image:
    """Show a flat part of one grey, with a square defect of another."""
    image = np.full((SIZE, SIZE, channels), grey, np.uint8)
    if defect is not None:
        image[8:20, 8:20] = defect
    return image


def write_image(path: Path, image: Image) -> None:
    """Write RGB pixels, as cv2 wants them."""
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@dataclass
class Clock:
    """A clock that only moves when told to, or by a step at each look."""

    now_ns: int = 10**12
    step_ns: int = 0

    def __call__(self) -> int:
        self.now_ns += self.step_ns
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


@dataclass
class Line:
    """Frames of these images, captured the moment that the loop asks."""

    images: list[Image]
    clock: Callable[[], int]

    def __iter__(self) -> Iterator[Frame | None]:
        for sequence, image in enumerate(self.images):
            yield Frame(sequence, f"part-{sequence}", image, self.clock())
