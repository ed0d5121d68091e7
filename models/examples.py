"""Chooses the test images that a reader of the report should see, and loads them. Draws nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data import Image, read_image
from models.evaluate import JudgedImage
from models.ground_truth import Mask

AT_MOST = 6


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One image worth seeing."""

    file: str
    type: str
    defect_types: tuple[str, ...]
    score: float
    image: Image  # (H, W, C)
    anomaly_map: npt.NDArray[np.float32]  # (H, W)
    marked: Mask  # (H, W) ground truth


@dataclass(frozen=True, slots=True, eq=False)
class ExampleGroup:
    """Images that show the same thing, the most telling first."""

    title: str
    note: str
    examples: tuple[Example, ...]


def choose_examples(judged: Sequence[JudgedImage], threshold: float) -> list[ExampleGroup]:
    """The mistakes, worst first, then the clearest catches and the good parts nearest to the threshold."""
    groups = [
        _group(
            "Missed anomalies",
            "Anomalous parts that would have been accepted, the lowest score first.",
            judged,
            lambda one: not one.image.is_good and one.scored.score <= threshold,
            highest_first=False,
        ),
        _group(
            "False rejects",
            "Good parts that would have been rejected, the highest score first.",
            judged,
            lambda one: one.image.is_good and one.scored.score > threshold,
        ),
        _group(
            "Clearest catches",
            "Anomalous parts that were rejected, the highest score first.",
            judged,
            lambda one: not one.image.is_good and one.scored.score > threshold,
        ),
        _group(
            "Nearest good parts",
            "Good parts that were accepted, the closest to the threshold first.",
            judged,
            lambda one: one.image.is_good and one.scored.score <= threshold,
        ),
    ]
    return [group for group in groups if group.examples]


def _group(
    title: str,
    note: str,
    judged: Sequence[JudgedImage],
    belongs: Callable[[JudgedImage], bool],
    *,
    highest_first: bool = True,
) -> ExampleGroup:
    members = sorted(filter(belongs, judged), key=lambda one: one.scored.score, reverse=highest_first)
    return ExampleGroup(title, note, tuple(_example(one) for one in members[:AT_MOST]))


def _example(judged: JudgedImage) -> Example:
    image, located = judged.image, judged.located
    marked = np.zeros(located.size, np.bool_)
    marked.ravel()[located.truth.pixels] = True
    return Example(
        file=f"{image.type}/{image.path.name}",
        type=image.type,
        defect_types=image.defect_types,
        score=judged.scored.score,
        image=read_image(image.path),
        anomaly_map=located.full_map(),
        marked=marked,
    )
