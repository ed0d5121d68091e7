"""Runs a bundle's graph with ONNX Runtime, on the CPU or on a CUDA device. Knows no camera and no threshold."""

import math
from typing import Any, Literal, Self

import cv2
import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from inspector.bundle import Bundle, Manifest
from inspector.engine import EngineError
from inspector.image_file import ImageFileError, read_image
from inspector.inspection import AnomalyMap, Image, Prediction

INPUT = "image"
OUTPUTS = ["anomaly_map", "score", "parts"]
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
WARM_UP = 3

_ERRORS_ONLY = 3
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxRuntimeEngine:
    """A bundle's graph in an ONNX Runtime session; entering loads it, warms it up and runs the self-test."""

    def __init__(self, bundle: Bundle, *, device: Literal["cpu", "cuda"] = "cpu", threads: int | None = None) -> None:
        self._bundle = bundle
        self._device = device
        self._threads = threads
        self._session: Any = None  # onnxruntime is untyped

    @property
    def name(self) -> str:
        """The runtime and the device that really runs: another one is refused on entering."""
        return f"onnxruntime-{self._device}"

    def __enter__(self) -> Self:
        self._session = self._open_session()
        try:
            self._check_provider()
            _check_graph(self._session, self._bundle.manifest)
            self._self_test()
        except EngineError:
            self._session = None
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._session = None

    def infer(self, image: Image) -> Prediction:
        """Predict one image; see `Engine.infer`."""
        fitting = fit(image, self._bundle.manifest)
        if self._session is None:
            raise EngineError("the engine is not open: use it as a context manager")
        try:
            anomaly_map, score, parts = self._session.run(OUTPUTS, {INPUT: fitting})
        except _RUNTIME_ERRORS as error:
            raise EngineError(f"{self.name} failed: {error}") from error
        return _prediction(anomaly_map, score, parts, self._bundle.manifest)

    def _open_session(self) -> object:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self._threads or 0
        # Threads that spin between two images take the cores from the bus: on two busy ones the whole part took
        # 72-81 ms with spinning and 56 ms without, and publishing's p99 fell from 12-16 ms to 5.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(
                str(self._bundle.model),
                options,
                providers=PROVIDERS[self._device],
            )
        except _RUNTIME_ERRORS as error:
            raise EngineError(
                f"{self._bundle.model}: ONNX Runtime cannot load it ({error}): export the bundle again, or update "
                "this station"
            ) from error

    def _check_provider(self) -> None:
        running = self._session.get_providers()[0]  # falls back without a word when the device's libraries are missing
        if running != PROVIDERS[self._device][0]:
            raise EngineError(
                f"{self.name} would run on {running}: install the device's driver and libraries "
                "(pip install -e '.[gpu]' in its checkout), or set engine = \"onnxruntime-cpu\" in station.toml"
            )

    def _self_test(self) -> None:
        expected = self._bundle.manifest.self_test
        path = self._bundle.self_test_image
        try:
            image = read_image(path, self._bundle.manifest.input.bit_depth)
        except ImageFileError as error:
            raise EngineError(f"self-test image {error}: copy the bundle again") from error
        for _ in range(WARM_UP):
            score = self.infer(image).score
            if not abs(score - expected.score) <= expected.tolerance:
                raise EngineError(
                    f"{self._bundle.folder}: self-test failed on {self.name}: {path.name} scores {score:.6g} here and "
                    f"{expected.score:.6g} where it was made (tolerance {expected.tolerance:.2g}): "
                    "do not use this bundle on this machine; export it again"
                )


def fit(image: Image, manifest: Manifest) -> Image:
    """Give the image as the graph takes it: a grey one is repeated for an RGB bundle; all else must fit as it is.

    Raises:
        EngineError: dtype, size or channels are not the bundle's.
    """
    spec = manifest.input
    if image.dtype != np.uint8 or image.ndim != 3:
        raise EngineError(f"the image is {image.dtype} {image.shape}, not uint8 (height, width, channels)")
    height, width, channels = image.shape
    if not height or not width:
        raise EngineError("the camera delivered no picture of this part")
    if (spec.height or height, spec.width or width) != (height, width):
        raise EngineError(
            f"the image has {width} x {height} pixels and the bundle takes {spec.width} x {spec.height}: set the "
            "camera's region of interest to that, or train a bundle with such images"
        )
    if channels == spec.channels:
        return image if image.flags.c_contiguous else np.ascontiguousarray(image)
    if channels == 1 and spec.channels == 3:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    raise EngineError(
        f"the image has {channels} channels and the bundle takes {spec.channels}: change the pixel format"
    )


def _check_graph(session: Any, manifest: Manifest) -> None:  # noqa: ANN401 - onnxruntime is untyped
    spec = manifest.input
    expected = {
        INPUT: ("tensor(uint8)", (spec.height, spec.width, spec.channels)),
        "anomaly_map": ("tensor(float)", (manifest.map_height, manifest.map_width)),
        "score": ("tensor(float)", ()),
        "parts": ("tensor(float)", (len(manifest.parts),)),
    }
    found = {node.name: (node.type, tuple(node.shape)) for node in [*session.get_inputs(), *session.get_outputs()]}
    for name, (dtype, shape) in expected.items():
        if name not in found:
            raise EngineError(f"the graph has no {name!r} (it has {', '.join(found)}): export the bundle again")
        if found[name][0] != dtype or not _agree(found[name][1], shape):
            raise EngineError(f"the graph's {name} is {found[name]}, the manifest says {(dtype, shape)}: export again")
    if extra := {node.name for node in session.get_inputs()} - {INPUT}:
        raise EngineError(f"the graph asks for more than an image ({', '.join(extra)}): export the bundle again")


def _agree(graph: tuple[int | str | None, ...], manifest: tuple[int | None, ...]) -> bool:
    """Whether the shapes are the same where both are fixed; a name or None is a dynamic size."""
    pairs = zip(graph, manifest, strict=False)
    return len(graph) == len(manifest) and all(
        not isinstance(size, int) or wanted is None or size == wanted for size, wanted in pairs
    )


def _prediction(anomaly_map: AnomalyMap, score: AnomalyMap, parts: AnomalyMap, manifest: Manifest) -> Prediction:
    shapes = (anomaly_map.shape, score.shape, parts.shape)
    if shapes != ((manifest.map_height, manifest.map_width), (), (len(manifest.parts),)):
        raise EngineError(f"the graph returned {shapes}, not what the manifest says: export the bundle again")
    value = float(score)
    if not math.isfinite(value) or not np.isfinite(anomaly_map).all():
        raise EngineError(f"the network's answer is not finite (score {value}): the part is not inspected")
    return Prediction(value, anomaly_map, dict(zip(manifest.parts, parts.tolist(), strict=True)))
