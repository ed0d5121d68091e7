"""What turns an image into a prediction. `Engine` is the seam: ONNX Runtime here; OpenVINO and TensorRT join it."""

from contextlib import AbstractContextManager
from typing import Protocol

from inspector.bundle import Bundle
from inspector.inspection import Image, Prediction
from inspector.station import EngineName


class Engine(Protocol):
    """A loaded bundle, ready to infer. One caller at a time."""

    @property
    def name(self) -> str:
        """The runtime and the device that really runs, e.g. `onnxruntime-cpu`."""
        ...

    def infer(self, image: Image) -> Prediction:
        """Predict one image.

        Args:
            image: (H, W, C) uint8, RGB or grey, of the size and channels that the bundle's manifest names.

        Raises:
            EngineError: the image does not fit the bundle, or the runtime failed.
        """
        ...


class EngineError(Exception):
    """The engine cannot infer; the text says why and what to do."""


def open_engine(name: EngineName, bundle: Bundle) -> AbstractContextManager[Engine]:
    """Make the engine that the station names; entering it loads the graph and runs the bundle's self-test.

    Raises:
        EngineError: on entering: the graph is not what the manifest says, the device is not there, or the self-test
            fails.
    """
    from inspector.engine.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, device="cuda" if name == "onnxruntime-cuda" else "cpu")
