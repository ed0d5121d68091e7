"""Normal images become a trained, calibrated detector. Reads train/good and validation/good, and nothing else."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.calibrate import ThresholdChoice, calibrate, choose_threshold
from models.comgen.examples import anomalies_of
from models.csda_fit import fit_csda
from models.data import DataError, Image
from models.detector import Detector
from models.fit import fit
from models.loop import denormals_as_zero
from models.normals import ImageFormat, Normals, evenly, load_normals
from models.progress import Progress
from models.trained import Record, Trained, TrainSettings

CHECKPOINT, CSDA_CHECKPOINT = "checkpoint.pt", "csda.pt"
TRAINED = "trained.pt"
CALIBRATION_IMAGES = 400  # of the training images, at most: with half of 275 the global distance lost .02 of AUROC


def train(
    dataset: Path,
    settings: TrainSettings,
    *,
    work: Path,
    progress: Progress,
    product: str | None = None,
    region: Image | None = None,
) -> Trained:
    """Learn a product from its good images.

    Args:
        dataset: folder in the MVTec or LOCO layout.
        settings: budget, seed and false-reject target.
        work: folder for the checkpoint, from which a training that was killed goes on, and for the result.
        progress: told about every stage.
        product: its name; None: the dataset folder's.
        region: (H, W, C); only where it is over half of its range the part is inspected. None: everywhere.

    Raises:
        DataError: the images cannot be learned from; the text says which and what to do.
    """
    normals = load_normals(dataset, seed=settings.seed, progress=progress)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    detector = Detector(settings.method).eval()
    if region is not None:
        require_shape(region, normals.format)
        detector.inspect_only(region)
    teacher = hashlib.sha256(b"".join(value.numpy().tobytes() for value in detector.teacher.state_dict().values()))
    learned = f"{normals.fingerprint} {settings.schedule} {settings.method} {teacher.hexdigest()}"
    key = hashlib.sha256(learned.encode()).hexdigest()
    with denormals_as_zero():
        seconds = fit(
            detector,
            normals.train,
            settings.schedule,
            checkpoint=work / CHECKPOINT,
            key=key,
            progress=progress,
        )
        seconds += compare(detector, normals, settings, checkpoint=work / CSDA_CHECKPOINT, key=key, progress=progress)
    started = time.monotonic()
    calibrate(
        detector,
        [normals.train[index] for index in evenly(len(normals.train), CALIBRATION_IMAGES)],
        normals.validation,
        lambda done, total: progress("calibrating", done, total),
        seed=settings.seed,
    )
    scores = validation_scores(detector, normals.validation)
    threshold = choose_threshold(scores, target=settings.false_reject_target, confidence=settings.confidence)
    record = Record(
        product=product or dataset.resolve().name,
        settings=settings,
        images=normals.paths,
        format=normals.format,
        fingerprint=normals.fingerprint,
        threshold=threshold,
        validation_scores=tuple(scores.tolist()),
        seconds=seconds + time.monotonic() - started,
        words=normals.words + region_words(detector),
    )
    trained = Trained(detector, record)
    trained.save(work / TRAINED)
    return trained


def compare(
    detector: Detector, normals: Normals, settings: TrainSettings, *, checkpoint: Path, key: str, progress: Progress
) -> float:
    """Let the detector learn what differs from good images, if its method has CSDA; returns the seconds spent."""
    if detector.csda is None:
        return 0.0
    schedule = settings.csda_schedule
    return fit_csda(
        detector.csda,
        detector.teacher,
        normals.train,
        anomalies_of(settings.method.anomalies, normals, schedule.anomalies, seed=settings.seed, progress=progress),
        detector.region,
        schedule,
        checkpoint=checkpoint,
        key=f"{key} {schedule}",
        progress=progress,
    )


def forget_checkpoint(work: Path) -> None:
    """Call once the bundle is made: until then the same command goes on from the checkpoints."""
    for name in (CHECKPOINT, CSDA_CHECKPOINT):
        (work / name).unlink(missing_ok=True)


def rechoose(trained: Trained, *, target: float | None, confidence: float | None) -> Trained:
    """Set the threshold anew for another false-reject target, from the scores that calibration has seen."""
    record = trained.record
    threshold = choose_threshold(
        np.array(record.validation_scores),
        target=target or record.threshold.false_reject_target,
        confidence=confidence or record.threshold.confidence,
    )
    return Trained(trained.detector, replace(record, threshold=threshold))


@torch.inference_mode()
def validation_scores(detector: Detector, images: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    """Image scores of network images, (n,)."""
    return np.array([detector.judge(image)[1].item() for image in images])


def require_shape(region: Image, image_format: ImageFormat) -> None:
    """The region of interest is drawn on an image of the product.

    Raises:
        DataError: it has another size.
    """
    size, wanted = region.shape[:2], (image_format.height, image_format.width)
    if wanted[0] is not None and size != wanted:
        raise DataError(
            f"the region of interest has {size[1]} x {size[0]} pixels and the images {wanted[1]} x {wanted[0]}: "
            "paint it on one of them"
        )


def region_words(detector: Detector) -> tuple[str, ...]:
    """How much is inspected, when it is not everything."""
    share = detector.region.mean().item()
    return () if share == 1 else (f"{share:.0%} of the image is inspected, as the region of interest says",)


def caution(choice: ThresholdChoice) -> tuple[str, ...]:
    """What the validation images cannot show, in words; nothing when they show the target."""
    if choice.is_shown:
        return ()
    needed = int(np.ceil(np.log(1 - choice.confidence) / np.log(1 - choice.false_reject_target)))
    word = (
        f"{choice.validation_images} validation images cannot show a false-reject rate of "
        f"{choice.false_reject_target:.1%}: they show at most {choice.shown_false_reject_rate:.1%} at "
        f"{choice.confidence:.0%} confidence. The threshold is an estimate that assumes normally distributed scores; "
        f"{needed} images in validation/good would show it"
    )
    return (word,)
