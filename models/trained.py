"""A trained detector and everything that is known of its making; on disk, so that it can be exported again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from models.checkpoint import load_whole, save_whole
from models.csda_fit import CsdaSchedule
from models.data import DataError, NormalImages
from models.detector import Detector
from models.fit import CROP, Schedule
from models.grid import GRID
from models.method import Method
from models.normals import ImageFormat
from models.threshold import ThresholdChoice

VERSION = 2  # of what a detector makes of its buffers: a threshold that was set by another says nothing
Budget = Literal["demo", "5min", "20min", "full"]
STEPS: dict[Budget, int] = {"demo": 400, "5min": 600, "20min": 1800, "full": 70_000}
CSDA_STEPS: dict[Budget, int] = {"demo": 150, "5min": 250, "20min": 500, "full": 5_000}
MADE: dict[Budget, int] = {"demo": 120, "5min": 240, "20min": 400, "full": 800}  # anomalies that CSDA learns from
JUDGES: dict[Budget, int] = {"demo": 28, "5min": 56, "20min": 56, "full": 112}  # that choices are made by
MARGIN_BUDGETS: frozenset[Budget] = frozenset({"20min", "full"})  # that leave time to try several
LEARNING_RATE, FULL_LEARNING_RATE = 3e-4, 1e-4


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that, with the images, determines the result."""

    budget: Budget = "20min"
    seed: int = 0
    false_reject_target: float = 0.01
    confidence: float = 0.95
    method: Method = Method()  # noqa: RUF009 - it is frozen

    @property
    def schedule(self) -> Schedule:
        """Steps of the budget; the full one takes the full map and the report's learning rate."""
        full = self.budget == "full"
        rate = self.method.learning_rate or (FULL_LEARNING_RATE if full else LEARNING_RATE)
        return Schedule(STEPS[self.budget], self.seed, rate, GRID if full else CROP)

    @property
    def csda_schedule(self) -> CsdaSchedule:
        """CSDA's steps of the budget."""
        return CsdaSchedule(CSDA_STEPS[self.budget], self.seed)

    @property
    def learned_from(self) -> int:
        """How many anomalies are made for CSDA."""
        return MADE[self.budget] if "csda" in self.method.heads else 0

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose, by anomalies made of validation images."""
        return self.method.chooses or self.tries_margins

    @property
    def judges(self) -> int:
        """How many of ComGEN's anomalies choices are made by."""
        return JUDGES[self.budget] if self.chooses else 0

    @property
    def tries_margins(self) -> bool:
        """Whether the margin is chosen for the product."""
        learns = self.method.student != "never" and self.method.separation
        return self.method.choose_margin and learns and self.budget in MARGIN_BUDGETS


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a training."""

    product: str
    settings: TrainSettings
    images: NormalImages
    format: ImageFormat
    fingerprint: str  # sha256 over the images' contents
    threshold: ThresholdChoice
    validation_scores: tuple[float, ...]
    seconds: float  # spent on training and calibration, over all resumed runs
    words: tuple[str, ...]  # what the person who trains should know


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A detector ready to export."""

    detector: Detector
    record: Record

    def save(self, path: Path) -> None:
        """Write whole or not at all."""
        record = TypeAdapter(Record).dump_json(self.record).decode()
        save_whole({"version": VERSION, "record": record, "detector": self.detector.state_dict()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` has written.

        Raises:
            DataError: there is no such file, it is damaged, or another version wrote it.
        """
        if not path.is_file():
            raise DataError(f"{path} does not exist: `inspector train` leaves it beside the bundle it makes")
        stored, foreign = load_whole(path), f"{path} was written by another version: train again"
        if stored.get("version") != VERSION:
            raise DataError(foreign)
        try:
            record = TypeAdapter(Record).validate_json(stored["record"])
            detector = Detector(record.settings.method).eval()
            detector.load_state_dict(stored["detector"])
        except (KeyError, RuntimeError, ValidationError) as error:
            raise DataError(foreign) from error
        return cls(detector, record)
