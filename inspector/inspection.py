"""The words everything else speaks: frame, prediction, decision, inspection. Knows no device and no file."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, C), C = 1 grey or 3 RGB
AnomalyMap = npt.NDArray[np.float32]  # (h, w), higher = more anomalous


class Verdict(StrEnum):
    """What the line is told. Only ACCEPT passes a part; FAULT means not inspected and is rejected like REJECT."""

    ACCEPT = "accept"
    REJECT = "reject"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One part in front of the camera."""

    sequence: int  # counts up from 0 since the camera was opened; a gap is a lost part
    part_id: str
    image: Image
    captured_ns: int  # time.monotonic_ns() at exposure
    trigger: int | None = None  # whose part it is, where somebody asked for it; comes back in the result
    encoder: int = 0  # of the belt at the trigger


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the network says of one frame."""

    score: float  # image score, higher = more anomalous
    anomaly_map: AnomalyMap
    parts: dict[str, float]  # the image score's parts by name, each alone


class Cause(StrEnum):
    """Why a part is not accepted."""

    NONE = "none"
    THRESHOLD = "threshold"
    LATE = "late"
    CAMERA = "camera"  # there is no picture
    MODEL = "model"  # the engine has no finite score
    JOURNAL = "journal"  # the decision is not on disk


@dataclass(frozen=True, slots=True)
class Decision:
    """What the line is told of one part, and why."""

    verdict: Verdict
    score: float | None  # None when there is no prediction
    threshold: float
    reason: str
    cause: Cause = Cause.NONE


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one part's time went, in milliseconds."""

    wait_ms: float  # from exposure to the loop taking the frame up
    infer_ms: float
    decide_ms: float
    publish_ms: float

    @property
    def total_ms(self) -> float:
        """From exposure to the verdict having left the loop."""
        return self.wait_ms + self.infer_ms + self.decide_ms + self.publish_ms


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """Everything known of one inspected part."""

    frame: Frame
    prediction: Prediction | None
    decision: Decision
    recipe: str
    bundle: str  # the bundle's id
    timings: Timings
