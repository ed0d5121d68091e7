"""What a benchmark has found, as tables and curves. Trains and judges nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.figure import Figure

from models.evaluation import ANOMALY_MAP, Evaluation
from models.localisation import LOGICAL, STRUCTURAL
from models.trained import Budget


@dataclass(frozen=True, slots=True)
class Row:
    """One method, trained once on one dataset and judged on its test images."""

    method: str
    seed: int
    budget: Budget | None  # None: the method has none
    train_seconds: float  # without reading the images
    evaluation: Evaluation

    def as_json(self) -> dict[str, object]:
        """The row with the evaluation's figures beside its own keys, without the single images."""
        figures = self.evaluation.model_dump(mode="json", exclude={"images"})
        own = {"method": self.method, "seed": self.seed, "budget": self.budget, "train_seconds": self.train_seconds}
        return {"dataset": figures.pop("dataset"), **own, **figures}


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of the rows, one line for each dataset, method and budget: mean ± standard deviation over the seeds."""
    return _table([_cells(group) for group in _groups(rows)])


def types_as_markdown(rows: Sequence[Row]) -> str:
    """Image AUROC of every kind of defect, a table for each dataset, one line for each method and budget."""
    tables = []
    for name in sorted({row.evaluation.dataset for row in rows}):
        groups = [group for group in _groups(rows) if group[0].evaluation.dataset == name]
        tables.append(_table([{"method": _name(group[0]), **_by_kind(group)} for group in groups]))
    return "\n".join(tables)


def _table(lines: Sequence[dict[str, str]]) -> str:
    """Lines of cells by column, as Markdown; a column is there if any line has it."""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    cells = [columns, ["---"] * len(columns), *([line.get(column, "n/a") for column in columns] for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells) if lines else ""


def plot_curves(rows: Sequence[Row], out: Path) -> None:
    """Image AUROC against minutes of training, a picture for each dataset side by side, a line for each method."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    names = sorted({row.evaluation.dataset for row in rows})
    for axes, name in zip(np.ravel(figure.subplots(1, len(names))), names, strict=True):
        points: dict[str, list[tuple[float, float]]] = {}
        for group in _groups([row for row in rows if row.evaluation.dataset == name]):
            known = [row.evaluation.image_auroc.pooled for row in group]
            figures = [figure for figure in known if figure is not None]
            if figures:
                minutes = mean(row.train_seconds for row in group) / 60
                points.setdefault(group[0].method, []).append((minutes, mean(figures)))
        for method, line in points.items():
            axes.plot(*zip(*sorted(line), strict=True), marker="o", label=method)
        axes.set(title=name, xlabel="minutes of training", ylabel="image AUROC")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(out, dpi=110)


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that differ in their seed only."""
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.evaluation.dataset, row.method, row.budget), []).append(row)
    return list(groups.values())


def _cells(group: Sequence[Row]) -> dict[str, str]:
    """One line of the table, by column."""
    first = group[0]

    def over_seeds(figure: Callable[[Evaluation], float | None]) -> str:
        return _spread([figure(row.evaluation) for row in group])

    return {
        "dataset": first.evaluation.dataset,
        "method": _name(first),
        "seeds": str(len(group)),
        "image AUROC": over_seeds(lambda figures: figures.image_auroc.pooled),
        "weakest type": _weakest_type([row.evaluation for row in group]),
        "logical": over_seeds(lambda figures: figures.image_auroc.logical),
        "structural": over_seeds(lambda figures: figures.image_auroc.structural),
        "map alone": over_seeds(lambda figures: figures.image_auroc_by_score.get(ANOMALY_MAP)),
        "AU-PRO": over_seeds(lambda figures: figures.au_pro),
        "AU-sPRO@0.05": over_seeds(lambda figures: figures.au_spro["0.05"]),
        "train min": f"{mean(row.train_seconds for row in group) / 60:.1f}",
    }


def _name(row: Row) -> str:
    """The method and its budget, if it has one."""
    return f"{row.method} {row.budget}" if row.budget else row.method


def _kinds(evaluations: Sequence[Evaluation]) -> dict[str, list[float | None]]:
    """Image AUROC of each kind of defect, over the evaluations; LOCO's two halves are no kinds."""
    return {
        kind: [one.image_auroc.by_type[kind] for one in evaluations]
        for kind in evaluations[0].image_auroc.by_type
        if kind not in {LOGICAL, STRUCTURAL}
    }


def _by_kind(group: Sequence[Row]) -> dict[str, str]:
    """Kind of defect -> mean over the seeds."""
    return {kind: _spread(figures) for kind, figures in _kinds([row.evaluation for row in group]).items()}


def _weakest_type(evaluations: Sequence[Evaluation]) -> str:
    """The kind of defect with the lowest mean image AUROC."""
    kinds = _kinds(evaluations)
    means = {
        kind: mean(known)
        for kind, figures in kinds.items()
        if (known := [figure for figure in figures if figure is not None])
    }
    if not means:
        return "n/a"
    weakest = min(means, key=lambda kind: means[kind])
    return f"{weakest} {_spread(kinds[weakest])}"


def _spread(figures: Sequence[float | None]) -> str:
    """Mean and, of two or more, sample standard deviation; n/a where the figure does not apply."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return "n/a"
    return f"{mean(known):.3f} ± {stdev(known):.3f}" if len(known) > 1 else f"{known[0]:.3f}"
