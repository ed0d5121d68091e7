"""Trains every method on every dataset with several seeds and sets their figures side by side. Knows no bundle."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np
import torch
from matplotlib.figure import Figure

from models.anomalies import MAKES
from models.baselines import CsdaAlone, PatchCore, Thumbnail
from models.calibrate import choose_threshold
from models.comgen.examples import COMGEN, COMGEN_ANY
from models.data import Image, NormalImages, normal_images, read_image, test_images
from models.evaluate import Predict, Scored, evaluate
from models.evaluation import Evaluation
from models.localisation import LOGICAL, STRUCTURAL
from models.method import ABLATION, NAMED
from models.normals import Normals, as_graph_image, load_normals
from models.progress import Progress, silent
from models.train import train
from models.trained import STEPS, Budget, Trained, TrainSettings

CSDA_ALONE = {f"csda-{kind}": kind for kind in (*MAKES, COMGEN_ANY, COMGEN)}
BASELINES = ("thumbnail", "patchcore", *CSDA_ALONE)
METHODS = (*BASELINES, *NAMED, *ABLATION)
SEEDLESS = frozenset({"thumbnail"})
FALSE_REJECT_TARGET = 0.01
CONFIDENCE = 0.95


class BenchmarkError(ValueError):
    """The benchmark cannot be run as asked; the text says why and what to do."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A method that has learned a product."""

    predict: Predict
    threshold: float
    seconds: float


def benchmark(
    datasets: Sequence[Path], methods: Sequence[str], *, seeds: int, budgets: Sequence[Budget], out: Path,
    progress: Progress, resume: bool = False,
) -> list[Row]:  # fmt: skip
    """Fit and judge each method on each dataset with seeds 0..seeds-1; one without randomness runs once.

    Every method gets its threshold in the same way, from validation images only. Seeds come last: a run that is cut
    short has done every method once before it does one twice.

    Args:
        datasets: folders in the MVTec or LOCO layout.
        methods: of METHODS.
        seeds: how many.
        budgets: of the methods that have one.
        out: JSON file, written whole after every row: a kill loses no row that was done.
        progress: told about every stage of every row.
        resume: keep the rows that `out` has already, and do the others.

    Raises:
        BenchmarkError: there is nothing to do, or a name that is not known.
        DataError: an image is not what it should be.
    """
    _check(datasets, methods, seeds)
    rows = read_rows(out) if resume and out.exists() else []
    done = {(row.evaluation.dataset, row.method, row.budget, row.seed) for row in rows}
    _partial(out).touch()  # a path that cannot be written to shows now, not after an hour of training
    for seed, dataset, method in product(range(seeds), datasets, methods):
        if seed > 0 and method in SEEDLESS:
            continue
        for budget in (None,) if method in BASELINES else budgets:
            if (dataset.resolve().name, method, budget, seed) not in done:
                rows.append(_row(dataset, method, seed, budget, progress))
                _write(rows, out)
    return rows


def as_budgets(text: str) -> list[Budget]:
    """Budgets from their comma-separated names.

    Raises:
        BenchmarkError: there is no such budget.
    """
    names = [name.strip() for name in text.split(",")]
    strange = [name for name in names if name not in STEPS]
    if strange:
        raise BenchmarkError(f"budget {', '.join(strange)}: known are {', '.join(STEPS)}")
    return [budget for budget in STEPS if budget in names]


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier benchmark, without their single images.

    Raises:
        BenchmarkError: the file is no benchmark's.
    """
    own = ("method", "seed", "budget", "train_seconds")
    try:
        return [
            Row(
                **{key: row[key] for key in own},
                evaluation=Evaluation.model_validate(
                    {key: value for key, value in row.items() if key not in own} | {"images": ()}
                ),
            )
            for row in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path} holds no rows of a benchmark: give another file, or do not resume") from error


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


def thumbnail_auroc(dataset: Path) -> float | None:
    """Pooled image AUROC of the thumbnail baseline: how much of a dataset is won without seeing its defects."""
    predict = Thumbnail(load_normals(dataset, seed=0, progress=silent))
    return evaluate(predict, dataset, threshold=0.0, bundle="thumbnail").image_auroc.pooled


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of the rows, one line for each dataset, method and budget: mean ± standard deviation over the seeds."""
    lines = [_cells(group) for group in _groups(rows)]
    table = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)] if lines else []
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _check(datasets: Sequence[Path], methods: Sequence[str], seeds: int) -> None:
    """Find now what would otherwise end the run hours later."""
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise BenchmarkError(f"methods {', '.join(unknown) or '(none)'}: known are {', '.join(METHODS)}")
    if seeds < 1 or not datasets:
        raise BenchmarkError("a benchmark needs at least one dataset and one seed")
    names = [dataset.resolve().name for dataset in datasets]
    if len(set(names)) < len(names):
        raise BenchmarkError(f"datasets are told apart by their folders' names, and two of {names} are the same")
    for dataset in datasets:
        normal_images(dataset)
        test_images(dataset)


def _row(dataset: Path, method: str, seed: int, budget: Budget | None, progress: Progress) -> Row:
    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        progress(f"{dataset.name}, {method}, seed {seed}: {stage}", done, total, note)

    fitted = _fit(dataset, method, seed, budget, tell)
    evaluation = evaluate(
        fitted.predict,
        dataset,
        threshold=fitted.threshold,
        bundle=f"{method}-seed{seed}",
        progress=lambda done, total: tell("judging", done, total),
    )
    return Row(method, seed, budget, fitted.seconds, evaluation)


def _fit(dataset: Path, method: str, seed: int, budget: Budget | None, progress: Progress) -> _Fitted:
    if budget:
        settings = TrainSettings(
            budget=budget, seed=seed, false_reject_target=FALSE_REJECT_TARGET, confidence=CONFIDENCE,
            method=(NAMED | ABLATION)[method],
        )  # fmt: skip
        with TemporaryDirectory(prefix="benchmark-") as work:
            trained = train(dataset, settings, work=Path(work), region=None, progress=progress)
        return _Fitted(_prediction_of(trained), trained.record.threshold.value, trained.record.seconds)
    normals = load_normals(dataset, seed=seed, progress=progress)
    started = time.monotonic()
    predict = _baseline(method, normals, seed, progress)
    seconds = time.monotonic() - started
    return _Fitted(predict, _threshold(predict, normals.paths, progress), seconds)


def _baseline(method: str, normals: Normals, seed: int, progress: Progress) -> Predict:
    if method == "thumbnail":
        return Thumbnail(normals)
    if method == "patchcore":
        return PatchCore(normals, seed=seed, progress=progress)
    return CsdaAlone(normals, CSDA_ALONE[method], seed=seed, progress=progress)


def _prediction_of(trained: Trained) -> Predict:
    @torch.inference_mode()
    def predict(image: Image) -> Scored:
        started = time.perf_counter()
        pixels = torch.from_numpy(as_graph_image(image, trained.record.format))
        anomaly_map, score, parts = trained.detector(pixels)
        fitted = ("maps", *trained.record.settings.method.heads)
        named = {
            name: part for name, part in zip(trained.detector.parts, parts.tolist(), strict=True) if name in fitted
        }
        return Scored(score.item(), anomaly_map.numpy(), named, (time.perf_counter() - started) * 1000)

    return predict


def _threshold(predict: Predict, images: NormalImages, progress: Progress) -> float:
    scores = []
    for done, path in enumerate(images.validation, start=1):
        scores.append(predict(read_image(path)).score)
        progress("choosing the threshold", done, len(images.validation))
    return choose_threshold(np.array(scores), target=FALSE_REJECT_TARGET, confidence=CONFIDENCE).value


def _write(rows: Sequence[Row], out: Path) -> None:
    """Whole or not at all."""
    partial = _partial(out)
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(out)


def _partial(out: Path) -> Path:
    """Beside the result: rows are written there first."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.with_name(f".{out.name}.partial")


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
        "method": f"{first.method} {first.budget}" if first.budget else first.method,
        "seeds": str(len(group)),
        "image AUROC": over_seeds(lambda figures: figures.image_auroc.pooled),
        "weakest type": _weakest_type([row.evaluation for row in group]),
        "logical": over_seeds(lambda figures: figures.image_auroc.logical),
        "structural": over_seeds(lambda figures: figures.image_auroc.structural),
        "AU-PRO": over_seeds(lambda figures: figures.au_pro),
        "AU-sPRO@0.05": over_seeds(lambda figures: figures.au_spro["0.05"]),
        "train min": f"{mean(row.train_seconds for row in group) / 60:.1f}",
    }


def _weakest_type(evaluations: Sequence[Evaluation]) -> str:
    """The kind of defect with the lowest mean image AUROC; LOCO's two halves are no kinds."""
    kinds = {
        kind: [one.image_auroc.by_type[kind] for one in evaluations] for kind in evaluations[0].image_auroc.by_type
    }
    means = {
        kind: mean(known)
        for kind, figures in kinds.items()
        if kind not in {LOGICAL, STRUCTURAL} and (known := [figure for figure in figures if figure is not None])
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
