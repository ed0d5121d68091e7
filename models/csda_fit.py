"""Trains CSDA on anomalies made of good images. Knows no file but its checkpoint."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.anomalies import Anomalies, Anomaly
from models.csda import Csda, mask_loss
from models.data import DataError
from models.grid import GRID
from models.loop import learn
from models.progress import Progress
from models.references import CANDIDATES, NORMAL_QUANTILE, References, residual_map, residual_mask
from models.teacher import Scales, Teacher

ANOMALOUS, NORMAL, UNLIKE, NO_OPS = 4, 2, 1, 1  # images of each kind in a batch: half of it is clean
UNLIKE_SHARE = 0.2  # of the pairs of good images and candidates, those that differ most
FEWEST_VISIBLE = 10  # anomalies
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
MOMENTUM = 0.98  # of the moving average that is kept
WARM_UP_SHARE = 0.05  # of the steps, until the learning rate has its value


class NothingSeenError(DataError):
    """There is nothing to learn from; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An image to learn from, as the teacher sees it."""

    features: Scales  # half precision, standardised, each (1, C, h, w)
    mask: Tensor  # (64, 64) in 0..1; empty: nothing is wrong
    source: int  # the training image that it is or was made from


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """All that is learned from."""

    anomalous: list[Example]
    normal: list[Example]
    no_ops: list[Example]  # edited, and nothing is wrong; may be empty
    unlike: list[tuple[int, int]]  # which normal image differs much from which of its candidates


@dataclass(frozen=True, slots=True)
class CsdaSchedule:
    """How long to learn; warm-up and decay of the learning rate follow from the steps."""

    steps: int
    seed: int

    def rate_at(self, step: int) -> float:
        """Learning rate: up over the first steps, then down along half a cosine."""
        share = step / self.steps
        return LEARNING_RATE * min((step + 1) / (WARM_UP_SHARE * self.steps + 1), 1) * math.cos(math.pi / 2 * share)


class CsdaTrainer:
    """The network in training, its slow copy that is kept in the end, and the optimiser."""

    def __init__(self, csda: Csda, examples: Examples, region: Tensor, schedule: CsdaSchedule) -> None:
        self.csda = csda
        self.examples = examples
        self.region = region
        self.schedule = schedule
        self.network = csda.aggregation.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = get_ema_multi_avg_fn(min(MOMENTUM, 1 - 1 / (1 + schedule.steps / 6)))  # type: ignore[no-untyped-call]
        self.slow = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.optimiser = AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {name: getattr(self, name).state_dict() for name in ("network", "slow", "optimiser")}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def step(self, step: int) -> Tensor:
        """One step on a batch, half of it clean; what is drawn depends on seed and step alone.

        Returns:
            the loss, ().
        """
        differences, mask = self._batch(np.random.default_rng((self.schedule.seed, step)))
        inspected = self.region.flatten().bool()
        logits = self.network(differences).flatten(1)
        loss = mask_loss(logits[:, inspected], mask.flatten(1)[:, inspected])
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.slow.update_parameters(self.network)
        return loss.detach()

    def finish(self) -> None:
        """Put the slow copy, which is evaluated and exported, into the detector."""
        self.network.load_state_dict(self.slow.module.state_dict())
        self.csda.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    @torch.no_grad()
    def _batch(self, draw: np.random.Generator) -> tuple[Scales, Tensor]:
        """Differences of some images to references that are not their sources, and their masks (B, 64, 64)."""
        drawn = self._draw(draw)
        features = _stacked([example.features for example, _ in drawn])
        source = torch.tensor([example.source for example, _ in drawn])
        rank = torch.tensor([rank for _, rank in drawn])
        differences = self.csda.references(features, self.region, source, rank)
        mask = torch.stack([example.mask for example, _ in drawn])
        turns, mirrored = int(draw.integers(4)), bool(draw.integers(2))
        fine, middle, coarse = (
            _turned(taps, turns, mirrored).contiguous(memory_format=torch.channels_last) for taps in differences
        )
        return (fine, middle, coarse), _turned(mask, turns, mirrored)

    def _draw(self, draw: np.random.Generator) -> list[tuple[Example, int]]:
        """A batch's images, each with the rank of the candidate that it is compared with."""
        known = self.examples
        chosen = [known.anomalous[index] for index in draw.integers(len(known.anomalous), size=ANOMALOUS)]
        chosen += [known.normal[index] for index in draw.integers(len(known.normal), size=NORMAL)]
        no_ops = known.no_ops or known.normal
        chosen += [no_ops[index] for index in draw.integers(len(no_ops), size=NO_OPS)]
        pairs = [(example, int(draw.integers(CANDIDATES))) for example in chosen]
        unlike = [known.unlike[index] for index in draw.integers(len(known.unlike), size=UNLIKE)]
        return pairs + [(known.normal[image], rank) for image, rank in unlike]


def fit_csda(
    csda: Csda, teacher: Teacher, images: Sequence[Tensor], anomalies: Anomalies, region: Tensor,
    schedule: CsdaSchedule, *, checkpoint: Path, key: str, progress: Progress,
) -> float:  # fmt: skip
    """Fill the memory and train the network in place, from the checkpoint on if there is one with this key.

    Args:
        csda: of the teacher's scales.
        teacher: frozen.
        images: good network images (1, 3, 256, 256) in 0..1.
        anomalies: made of them, and edits with which nothing is wrong; each is read once.
        region: (1, 1, 64, 64), 1 where the part is inspected, else 0.
        schedule: how long, and the seed.
        checkpoint: its file.
        key: names the training.
        progress: told about every stage.

    Returns:
        seconds spent, those before an interruption included.

    Raises:
        NothingSeenError: hardly any of the anomalies can be seen.
        FloatingPointError: the loss is no longer finite.
    """
    started = time.monotonic()
    examples = prepare(csda.references, teacher, images, anomalies, region, schedule.seed, progress)
    trainer = CsdaTrainer(csda, examples, region, schedule)
    earlier = learn(
        trainer, schedule.steps, stage="learning differences", started=started, checkpoint=checkpoint, key=key,
        progress=progress,
    )  # fmt: skip
    trainer.finish()
    return earlier + time.monotonic() - started


@torch.no_grad()
def prepare(
    references: References, teacher: Teacher, images: Sequence[Tensor], anomalies: Anomalies, region: Tensor,
    seed: int, progress: Progress,
) -> Examples:  # fmt: skip
    """Fill the memory, look at every image once, and draw the masks of what can be seen of the anomalies.

    Raises:
        NothingSeenError: hardly any of the anomalies can be seen.
    """
    features = []
    for done, image in enumerate(images, start=1):
        features.append(_half(teacher.scales(image)))
        progress("remembering good images", done, len(images))
    references.remember(features, seed)
    empty = torch.zeros(GRID, GRID)
    normal = [Example(_half(references.standardise(taps)), empty, index) for index, taps in enumerate(features)]
    level, unlike = normal_residuals(references, normal, region)
    anomalous, no_ops = [], []
    for index in range(len(anomalies)):
        item = anomalies[index]
        taps = _half(references.standardise(teacher.scales(item.image)))
        if not item.mask.any():
            no_ops.append(Example(taps, empty, item.source))
        elif (mask := _visible(references, taps, item, region, level)) is not None:
            anomalous.append(Example(taps, mask, item.source))
        progress("looking at anomalies", index + 1, len(anomalies))
    if len(anomalous) < FEWEST_VISIBLE:
        raise NothingSeenError(
            f"CSDA is left out: of {len(anomalies)} made anomalies only {len(anomalous)} can be seen among how good "
            "images differ"
        )
    return Examples(anomalous, normal, no_ops, unlike)


def normal_residuals(
    references: References, normal: Sequence[Example], region: Tensor
) -> tuple[float, list[tuple[int, int]]]:
    """How good images differ from their candidates.

    Returns:
        the `NORMAL_QUANTILE` of their cells' residuals against the nearest, and the pairs of image and candidate that
        differ most.
    """
    inspected = region[0, 0].bool()
    nearest, means = [], []
    for example in normal:
        source = torch.full((CANDIDATES,), example.source)
        many = _stacked([example.features] * CANDIDATES)
        residuals = residual_map(references(many, region, source, torch.arange(CANDIDATES)))[:, inspected]
        nearest.append(residuals[0])
        means.append(residuals.mean(dim=1))
    order = torch.stack(means).flatten().argsort(descending=True)
    most = order[: max(1, int(UNLIKE_SHARE * len(order)))].tolist()
    level = float(np.quantile(torch.cat(nearest).numpy(), NORMAL_QUANTILE))
    return level, [divmod(pair, CANDIDATES) for pair in most]


def _visible(
    references: References, features: Scales, item: Anomaly, region: Tensor, level: float
) -> Tensor | None:  # fmt: skip
    """The mask (64, 64) of what can be seen of an anomaly where the part is inspected; None: nothing."""
    taps = _stacked([features])
    differences = references(taps, region, torch.tensor([item.source]), torch.zeros(1, dtype=torch.long))
    inspected = item.mask * F.interpolate(region, size=item.mask.shape)[0, 0]
    return residual_mask(inspected, residual_map(differences)[0], level)


def _half(features: Scales) -> Scales:
    fine, middle, coarse = (taps.half() for taps in features)
    return fine, middle, coarse


def _stacked(features: Sequence[Scales]) -> Scales:
    fine, middle, coarse = (torch.cat(taps).float() for taps in zip(*features, strict=True))
    return fine, middle, coarse


def _turned(features: Tensor, turns: int, mirrored: bool) -> Tensor:
    turned = torch.rot90(features, turns, (-2, -1))
    return turned.flip(-1) if mirrored else turned
