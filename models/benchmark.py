"""Trains every method on every dataset with several seeds and sets their figures side by side. Knows no bundle."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from models.anomalies import MAKES
from models.baselines import CsdaAlone, PatchCore, Thumbnail
from models.comgen.examples import COMGEN, COMGEN_ANY
from models.data import Image, NormalImages, normal_images, read_image, test_images
from models.evaluate import Predict, Scored, evaluate
from models.evaluation import Evaluation
from models.method import ABLATION, NAMED
from models.normals import Normals, as_graph_image, load_normals
from models.progress import Progress, silent
from models.tables import Row
from models.threshold import choose_threshold
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
        BenchmarkError: there is nothing to do, a name is not known, or `out` is there and not to be resumed.
        DataError: an image is not what it should be.
    """
    _check(datasets, methods, seeds)
    if out.exists() and not resume:
        raise BenchmarkError(f"{out} is there already: resume it to keep its rows and go on, or give another file")
    rows = read_rows(out) if out.exists() else []
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


def thumbnail_auroc(dataset: Path) -> float | None:
    """Pooled image AUROC of the thumbnail baseline: how much of a dataset is won without seeing its defects."""
    predict = Thumbnail(load_normals(dataset, seed=0, progress=silent))
    return evaluate(predict, dataset, threshold=0.0, bundle="thumbnail").image_auroc.pooled


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
