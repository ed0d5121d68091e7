"""DFSC's margin for one product: networks trained with each, compared by how far made anomalies stand out of good ones.

The report chooses it by labelled anomalies, which no product has when it is learned.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.calibrate import GoodResiduals, fit_maps
from models.choose import Wins, by_kind, choose_largest, look, wins
from models.detector import Detector
from models.fakes import Fake
from models.fit import Schedule, Trainer
from models.loop import learn
from models.normals import evenly
from models.progress import Progress

CHECKPOINT = "checkpoint.pt"  # of the steps before the margins part
MARGINS = (0.0, 0.4, 1.0)  # that are tried beside the method's own, which stays where no other is better
SHARED = 5 / 6  # of the steps, that are taken once, with the method's own
LOOKED_AT = 40  # training images, and as many validation images, that a margin is judged on


def fit_margins(
    detector: Detector,
    images: Sequence[Tensor],
    schedule: Schedule,
    separation: Callable[[Detector], Wins],
    *,
    work: Path,
    key: str,
    progress: Progress,
) -> tuple[float, float]:
    """Train the networks in place, the last steps with each margin, and keep those that tell anomalies apart best.

    Args:
        detector: its student and auto-encoder are trained.
        images: good network images (1, 3, 256, 256).
        schedule: how long.
        separation: of a detector with trained networks.
        work: folder of the checkpoints, from which a training that was killed goes on.
        key: names the training.
        progress: told about every stage.

    Returns:
        the margin, and the seconds spent, those before an interruption included.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    started = time.monotonic()
    trainer = Trainer(detector, images, schedule)
    trainer.cache_teacher(progress)
    shared = round(SHARED * schedule.steps)
    own = detector.method.margin
    margins = (own, *(margin for margin in MARGINS if margin != own))
    earlier = learn(
        trainer, shared, stage="training", started=started, checkpoint=work / CHECKPOINT,
        key=f"{key} {schedule.steps}", progress=progress,
    )  # fmt: skip
    fork = deepcopy(trainer.state())
    beaten, ends = [], []
    for margin in margins:
        trainer.restore(deepcopy(fork))  # the optimiser takes its moments as they are, and changes them
        trainer.method = replace(detector.method, margin=margin)
        earlier += learn(
            trainer, schedule.steps, first=shared, stage=f"training with margin {margin:g}", started=time.monotonic(),
            checkpoint=work / checkpoint_name(margin), key=f"{key} {margin:g}", progress=progress,
        )  # fmt: skip
        trainer.finish()
        beaten.append(separation(detector))
        ends.append(deepcopy(trainer.networks.state_dict()))
    best = choose_largest(np.stack(beaten), [margin == own for margin in margins])
    trainer.networks.load_state_dict(ends[best])
    return margins[best], earlier + time.monotonic() - started


def checkpoint_name(margin: float | None) -> str:
    """Of the last steps with a margin; None: a pattern of all."""
    return "margin-*.pt" if margin is None else f"margin-{margin:g}.pt"


@torch.inference_mode()
def separate(
    detector: Detector, train: Sequence[Tensor], validation: Sequence[Tensor], fakes: Sequence[Fake], progress: Progress
) -> Wins:
    """How often DFSC's maps alone score a kind of anomaly higher than a good image, (kinds, good images).

    Args:
        detector: with trained networks; what scales its maps is written, from few images.
        train: good network images that the maps are scaled by.
        validation: others, to compare with.
        fakes: anomalies that were made of them.
        progress: told about each image.
    """
    known, good = ([images[index] for index in evenly(len(images), LOOKED_AT)] for images in (train, validation))
    total = len(known) + len(good) + len(fakes)
    residuals = GoodResiduals(detector.region, len(known))
    for done, image in enumerate(known, start=1):
        residuals.add(detector.evidence(image).residuals)
        progress("comparing margins", done, total)
    residuals.fit(detector)
    seen = look(detector, good, lambda done: progress("comparing margins", len(known) + done, total))
    fit_maps(detector, seen)
    edited = look(
        detector,
        [item.image for item in fakes],
        lambda done: progress("comparing margins", total - len(fakes) + done, total),
    )
    scores, higher = (
        torch.stack([detector.raw_map_parts(maps)["maps"] for maps in looks.distances]) for looks in (seen, edited)
    )
    return by_kind(wins(scores, higher), [item.kind for item in fakes])
