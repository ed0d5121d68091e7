"""Judges a dataset's test images with a trained model and says how well it did. Knows no bundle, engine or network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from models.data import GOOD, Image, TestImage, read_image, test_images
from models.evaluation import ANOMALY_MAP, Confusion, Evaluation, ImageAuroc, ImageResult
from models.ground_truth import Saturation, read_ground_truth, read_saturations
from models.localisation import LOGICAL, STRUCTURAL, LocatedImage, localise
from models.metrics import auroc


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What the model says of one image."""

    score: float  # image score, higher = more anomalous
    anomaly_map: npt.NDArray[np.float32]  # (h, w), any resolution
    parts: dict[str, float]  # the image score's parts by name, each alone
    latency_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class JudgedImage:
    """One test image, what is known of it and what the model says."""

    image: TestImage
    scored: Scored
    located: LocatedImage


Predict = Callable[[Image], Scored]
Progress = Callable[[int, int], None]  # (images done, images in all)


def evaluate(
    predict: Predict,
    dataset: Path,
    *,
    threshold: float,
    bundle: str,
    maps: Path | None = None,
    report: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judges every image under DATASET/test, rejecting when score > threshold.

    Args:
        predict: takes an image as read_image gives it.
        dataset: the folder in the MVTec or LOCO layout.
        threshold: of the image score.
        bundle: the model's name, for the record.
        maps: where to write each anomaly map at its image's size, <type>/<stem>.tiff, float32.
        report: the folder to write report.html into.
        progress: is told after every image.

    Raises:
        DataError: an image, mask or list in the dataset is malformed.
        ValueError: the model gave a score or map that is no number.
    """
    images, saturations = test_images(dataset), read_saturations(dataset)
    judged: list[JudgedImage] = []
    for image in images:
        judged.append(_judge(image, predict, saturations))
        if maps is not None:
            _write_map(judged[-1], maps)
        if progress is not None:
            progress(len(judged), len(images))
    evaluation = summarise(judged, dataset, threshold=threshold, bundle=bundle)
    if report is not None:
        from models.examples import choose_examples  # both bring drawing libraries along
        from models.report import write_report

        write_report(evaluation, choose_examples(judged, threshold), report)
    return evaluation


def summarise(judged: Sequence[JudgedImage], dataset: Path, *, threshold: float, bundle: str) -> Evaluation:
    """All figures of the judged images."""
    # Anomalous images that nobody has marked would count as defect-free pixels.
    localisation = localise([one.located for one in judged if one.image.is_good or one.image.masks])
    return Evaluation(
        dataset=dataset.resolve().name,
        bundle=bundle,
        image_auroc=_image_auroc(judged),
        image_auroc_by_score=_auroc_by_score(judged),
        pixel_auroc=localisation.pixel_auroc,
        au_pro=localisation.au_pro,
        au_spro=localisation.au_spro,
        threshold=threshold,
        confusion=_confusion(judged, threshold),
        images=tuple(_image_result(one, dataset, threshold) for one in judged),
    )


def verdict(score: float, threshold: float) -> Literal["accept", "reject"]:
    """Reject when score > threshold."""
    return "reject" if score > threshold else "accept"


def _judge(image: TestImage, predict: Predict, saturations: dict[int, Saturation]) -> JudgedImage:
    pixels = read_image(image.path)
    size = (pixels.shape[0], pixels.shape[1])
    truth = read_ground_truth(image, size, saturations)  # before predict: a bad mask is found sooner
    scored = predict(pixels)
    if not np.isfinite([scored.score, *scored.parts.values()]).all() or not np.isfinite(scored.anomaly_map).all():
        raise ValueError(f"the model's score or anomaly map of {image.path} is no finite number: do not use this model")
    return JudgedImage(image, scored, LocatedImage(image.type, scored.anomaly_map, size, truth))


def _write_map(judged: JudgedImage, maps: Path) -> None:
    folder = maps / judged.image.type
    folder.mkdir(parents=True, exist_ok=True)
    uncompressed = [cv2.IMWRITE_TIFF_COMPRESSION, 1]  # so that every TIFF reader can
    encoded = cv2.imencode(".tiff", judged.located.full_map(), uncompressed)[1]
    (folder / f"{judged.image.path.stem}.tiff").write_bytes(encoded.tobytes())


def _image_auroc(judged: Sequence[JudgedImage]) -> ImageAuroc:
    good = _scores([one for one in judged if one.image.is_good])
    anomalous = [one for one in judged if not one.image.is_good]
    folders = _by_type([(one.image.type, one) for one in anomalous])
    finer = _by_type([(kind, one) for one in anomalous for kind in one.image.defect_types])
    by_folder = {kind: auroc(good, _scores(members)) for kind, members in folders.items()}
    by_finer = {kind: auroc(good, _scores(members)) for kind, members in finer.items() if kind not in {GOOD, *folders}}
    logical, structural = by_folder.get(LOGICAL), by_folder.get(STRUCTURAL)
    both = logical is not None and structural is not None
    return ImageAuroc(
        pooled=auroc(good, _scores(anomalous)),
        mean=_mean([logical, structural] if both else list(by_folder.values())),
        logical=logical,
        structural=structural,
        by_type=by_folder | by_finer,
    )


def _by_type(members: Sequence[tuple[str, JudgedImage]]) -> dict[str, list[JudgedImage]]:
    groups: dict[str, list[JudgedImage]] = {}
    for kind, member in members:
        groups.setdefault(kind, []).append(member)
    return dict(sorted(groups.items()))


def _auroc_by_score(judged: Sequence[JudgedImage]) -> dict[str, float | None]:
    """Pooled image AUROC of each part of the score alone, and of the highest value of the map that is shown."""
    alone = [{**one.scored.parts, ANOMALY_MAP: float(one.scored.anomaly_map.max())} for one in judged]
    good = np.array([one.image.is_good for one in judged])
    figures: dict[str, float | None] = {}
    for name in dict.fromkeys(name for scores in alone for name in scores):
        scores = np.array([image[name] for image in alone])
        figures[name] = auroc(scores[good], scores[~good])
    return figures


def _scores(judged: Sequence[JudgedImage]) -> npt.NDArray[np.float64]:
    return np.array([one.scored.score for one in judged], np.float64)


def _mean(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if known else None


def _confusion(judged: Sequence[JudgedImage], threshold: float) -> Confusion:
    outcomes = [(one.image.is_good, one.scored.score > threshold) for one in judged]
    return Confusion(
        tp=outcomes.count((False, True)),
        fp=outcomes.count((True, True)),
        tn=outcomes.count((True, False)),
        fn=outcomes.count((False, False)),
    )


def _image_result(judged: JudgedImage, dataset: Path, threshold: float) -> ImageResult:
    return ImageResult(
        file=judged.image.path.relative_to(dataset).as_posix(),
        type=judged.image.type,
        score=judged.scored.score,
        verdict=verdict(judged.scored.score, threshold),
        latency_ms=judged.scored.latency_ms,
    )
