"""Writes an evaluation as one HTML file that a person can read, with nothing to load from elsewhere. Judges nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.data import GOOD
from models.evaluation import Evaluation, ImageResult
from models.examples import Example, ExampleGroup
from models.picture import heat_over_image, image_with_contour, score_histogram

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class _TypeRow:
    """One folder under test/ that holds anomalous parts."""

    type: str
    images: int
    rejected: int
    auroc: float | None


@dataclass(frozen=True, slots=True)
class _Card:
    """One example, drawn."""

    file: str
    kinds: str
    score: float
    image: str  # data URI
    heat: str  # data URI


def write_report(evaluation: Evaluation, groups: Sequence[ExampleGroup], folder: Path) -> Path:
    """Writes FOLDER/report.html whole or not at all, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{REPORT}.unfinished"
    unfinished.write_text(render(evaluation, groups), encoding="utf-8")
    return unfinished.replace(folder / REPORT)


def render(evaluation: Evaluation, groups: Sequence[ExampleGroup]) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    rows = _type_rows(evaluation)
    folders = {row.type for row in rows}
    good = [image.score for image in evaluation.images if image.type == GOOD]
    anomalous = [image.score for image in evaluation.images if image.type != GOOD]
    return environment.get_template("report.html.jinja").render(
        evaluation=evaluation,
        histogram=score_histogram(good, anomalous, evaluation.threshold),
        rows=rows,
        finer={kind: area for kind, area in evaluation.image_auroc.by_type.items() if kind not in folders},
        groups=[(group, _cards(group, *_heat_range(groups))) for group in groups],
        latency_ms=median([image.latency_ms for image in evaluation.images]),
    )


def _figure(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _type_rows(evaluation: Evaluation) -> list[_TypeRow]:
    by_type: dict[str, list[ImageResult]] = {}
    for image in evaluation.images:
        by_type.setdefault(image.type, []).append(image)
    return [
        _TypeRow(
            type=kind,
            images=len(images),
            rejected=sum(image.verdict == "reject" for image in images),
            auroc=evaluation.image_auroc.by_type[kind],
        )
        for kind, images in by_type.items()
        if kind != GOOD
    ]


def _heat_range(groups: Sequence[ExampleGroup]) -> tuple[float, float]:
    """One range for all maps, so that they compare: clear up to their median, full at the highest half percent."""
    maps = [example.anomaly_map[::4, ::4].ravel() for group in groups for example in group.examples]
    low, high = np.quantile(np.concatenate(maps), [0.5, 0.995])
    return float(low), float(high)


def _cards(group: ExampleGroup, low: float, high: float) -> list[_Card]:
    return [_card(example, low, high) for example in group.examples]


def _card(example: Example, low: float, high: float) -> _Card:
    return _Card(
        file=example.file,
        kinds=", ".join(example.defect_types).replace("_", " "),
        score=example.score,
        image=image_with_contour(example.image, example.marked),
        heat=heat_over_image(example.image, example.anomaly_map, low, high),
    )
