"""Normal images become a trained, calibrated detector. Reads train/good and validation/good, and nothing else."""

import hashlib
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.anomalies import MAKES
from models.calibrate import calibrate
from models.choose import judging_fakes
from models.comgen.examples import Imagined, imagine
from models.csda_fit import NothingSeenError, fit_csda
from models.data import DataError, Image
from models.detector import Detector
from models.fakes import Fake
from models.fit import fit, fit_teacher
from models.loop import denormals_as_zero
from models.margin import CHECKPOINT, checkpoint_name, fit_margins, separate
from models.normals import ImageFormat, Normals, evenly, load_normals
from models.progress import Progress
from models.threshold import ThresholdChoice, choose_threshold
from models.trained import Record, Trained, TrainSettings

CSDA_CHECKPOINT, IMAGINED = "csda.pt", "anomalies.pt"
TRAINED = "trained.pt"
FAKES_PER_KIND = 10
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
    detector = untrained(settings, normals.format, region)
    key = key_of(detector, normals, settings)
    started = time.monotonic()
    imagined = imagine_for(normals, settings, store=work / IMAGINED, progress=progress)
    fakes: list[Fake] = []
    if settings.chooses:
        fakes = judging_fakes(detector, normals.validation, imagined.judge, per_kind=FAKES_PER_KIND, seed=settings.seed)
    seconds = time.monotonic() - started
    with denormals_as_zero():
        seconds += fit_networks(detector, normals, fakes, settings, work=work, key=key, progress=progress)
        detector, word, spent = compare(detector, normals, imagined, settings, work=work, key=key, progress=progress)
    started = time.monotonic()
    calibrate(
        detector,
        [normals.train[index] for index in evenly(len(normals.train), CALIBRATION_IMAGES)],
        normals.validation,
        progress,
        fakes=fakes if settings.method.chooses else (),
        seed=settings.seed,
    )
    if idle := detector.idle_parts():
        word += left_out(idle)
        detector = detector.without(idle)
    scores = validation_scores(detector, normals.validation)
    record = Record(
        product=product or dataset.resolve().name,
        settings=replace(settings, method=detector.method),
        images=normals.paths,
        format=normals.format,
        fingerprint=normals.fingerprint,
        threshold=choose_threshold(scores, target=settings.false_reject_target, confidence=settings.confidence),
        validation_scores=tuple(scores.tolist()),
        seconds=seconds + spent + time.monotonic() - started,
        words=normals.words + region_words(detector) + imagined.words + word,
    )
    trained = Trained(detector, record)
    trained.save(work / TRAINED)
    return trained


def untrained(settings: TrainSettings, image_format: ImageFormat, region: Image | None) -> Detector:
    """The method's detector, with the networks that the seed draws."""
    torch.manual_seed(settings.seed)
    detector = Detector(settings.method).eval()
    if region is not None:
        require_shape(region, image_format)
        detector.inspect_only(region)
    return detector


def key_of(detector: Detector, normals: Normals, settings: TrainSettings) -> str:
    """A hash of all that a checkpoint depends on."""
    teacher = hashlib.sha256(b"".join(value.numpy().tobytes() for value in detector.teacher.state_dict().values()))
    learned = (
        f"{normals.fingerprint} {settings.schedule} {settings.method} {settings.learned_from} {teacher.hexdigest()}"
    )
    return hashlib.sha256(learned.encode()).hexdigest()


def fit_networks(
    detector: Detector, normals: Normals, fakes: Sequence[Fake], settings: TrainSettings, *, work: Path, key: str,
    progress: Progress,
) -> float:  # fmt: skip
    """Train student and auto-encoder, with the margin that the method names or the best one; returns the seconds."""
    if detector.student is None:
        started = time.monotonic()
        fit_teacher(detector, normals.train, progress)
        return time.monotonic() - started
    if not settings.tries_margins:
        return fit(detector, normals.train, settings.schedule, checkpoint=work / CHECKPOINT, key=key, progress=progress)
    margin, seconds = fit_margins(
        detector,
        normals.train,
        settings.schedule,
        lambda trained: separate(trained, normals.train, normals.validation, fakes, progress),
        work=work,
        key=key,
        progress=progress,
    )
    detector.method = replace(detector.method, margin=margin)
    return seconds


def imagine_for(normals: Normals, settings: TrainSettings, *, store: Path, progress: Progress) -> Imagined:
    """The anomalies that this method learns from and is chosen by; none where it has no heads to choose."""
    kind = settings.method.anomalies
    edited = settings.judges if kind not in MAKES else 0
    if not settings.method.heads or not (settings.learned_from or edited):
        return Imagined((), ())
    return imagine(
        kind,
        normals,
        settings.learned_from,
        judges=edited,
        seed=settings.seed,
        store=store,
        progress=progress,
    )


def compare(
    detector: Detector, normals: Normals, imagined: Imagined, settings: TrainSettings, *, work: Path, key: str,
    progress: Progress,
) -> tuple[Detector, tuple[str, ...], float]:  # fmt: skip
    """Let the detector's CSDA, if it has one, learn what differs from good images.

    Returns:
        the detector, without CSDA if hardly any anomaly can be seen; words, then; and the seconds spent.
    """
    if detector.csda is None:
        return detector, (), 0.0
    try:
        seconds = fit_csda(
            detector.csda,
            detector.teacher,
            normals.train,
            imagined.learn,
            detector.region,
            settings.csda_schedule,
            checkpoint=work / CSDA_CHECKPOINT,
            key=f"{key} {settings.csda_schedule}",
            progress=progress,
        )
    except NothingSeenError as error:
        return detector.without({"csda"}), (str(error),), 0.0
    return detector, (), seconds


def forget_checkpoint(work: Path) -> None:
    """Call once the bundle is made: until then the same command goes on from the checkpoints."""
    for path in (*(work / name for name in (CHECKPOINT, CSDA_CHECKPOINT, IMAGINED)), *work.glob(checkpoint_name(None))):
        path.unlink(missing_ok=True)


def rechoose(trained: Trained, *, target: float | None, confidence: float | None) -> Trained:
    """Set the threshold anew for another false-reject target, from the scores that calibration has seen."""
    record = trained.record
    threshold = choose_threshold(
        np.array(record.validation_scores),
        target=record.threshold.false_reject_target if target is None else target,
        confidence=record.threshold.confidence if confidence is None else confidence,
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


def left_out(parts: Collection[str]) -> tuple[str, ...]:
    """What it means that the student was left out, in words."""
    if "maps" not in parts:
        return ()
    word = (
        "made anomalies are told from good images better without DFSC's student: it is left out, and an inspection "
        'takes a fraction of the time (student = "always" in a recipe keeps it)'
    )
    return (word,)


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
