"""The words everything else speaks: frame, prediction, decision, inspection. Knows no device and no file."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, C), C = 1 grey or 3 RGB
AnomalyMap = npt.NDArray[np.float32]  # (h, w), higher = more anomalous


class Verdict(StrEnum):
    """What the line is told. Only ACCEPT passes a part; FAULT means not inspected and is rejected like REJECT."""

    ACCEPT = "accept"
    REJECT = "reject"
    FAULT = "fault"


class RecipeId(NamedTuple):
    """Exactly which recipe: a revision is of one model and one threshold."""

    number: int
    revision: int


NO_RECIPE = RecipeId(0, 0)


class Refusal(IntEnum):
    """Why another recipe was not taken, as the PLC reads it; the one that was active stays so."""

    NONE = 0
    NO_RECIPE = 5  # the station has none of this number
    BUNDLE = 20  # a file of it is missing, changed or foreign
    ENGINE = 21  # it cannot be loaded, or fails its self-test
    PICTURE = 22  # the camera's pictures do not fit it
    JOURNAL = 23  # the change cannot be written down
    BUSY = 24  # another change is under way
    NOT_ANSWERED = 25  # the station is not there, was restarted, or said nothing in time


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One part in front of the camera."""

    sequence: int  # counts up from 0 since the camera was opened; a gap is a lost part
    part_id: str
    image: Image
    captured_ns: int  # time.monotonic_ns() at exposure
    trigger: int | None = None  # whose part it is, where somebody asked for it; comes back in the result
    encoder: int = 0  # of the belt at the trigger
    asked_ns: int = 0  # time.monotonic_ns() when somebody said that the part is there; 0: nobody did
    admitted_ns: int = (
        0  # time.monotonic_ns() when the station took that word; 0: nobody asked, the camera came by itself
    )

    @property
    def began_ns(self) -> int:
        """When the part became this station's: the recipe of that moment is its recipe."""
        return self.admitted_ns or self.captured_ns


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
    RECIPE = "recipe"  # it came during a changeover, or before one that has ended


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
    recipe_id: RecipeId = NO_RECIPE
