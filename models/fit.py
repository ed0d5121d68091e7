"""Trains a detector's networks on network images with the DFSC loss. Knows no file but its checkpoint."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from models.checkpoint import Checkpoint
from models.detector import Detector
from models.dfsc import Constraint, Losses, losses
from models.efficientad import RECEPTIVE_FIELD, STRIDE, pad_for_student
from models.progress import Progress
from models.teacher import GRID

CROP = 24  # grid cells along a side of the crop that the student is trained on
CHECKPOINT_SECONDS = 30.0
REPORT_STEPS = 10  # between two reports of progress
EMA_DECAY = 0.99
WARM_UP_SHARE = 0.03  # of the steps, until the learning rate is 95 % of its value
DROP_SHARE = 0.9  # of the steps, after which the learning rate is a tenth


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int

    def rate_at(self, step: int) -> float:
        """Learning rate: exponential warm-up (Ma & Yarats 2021) scaled to the number of steps; a drop near the end."""
        warm = 1 - np.exp(-3 * (step + 1) / (WARM_UP_SHARE * self.steps))
        return float(self.learning_rate * warm * (0.1 if step >= DROP_SHARE * self.steps else 1))


class Trainer:
    """The networks in training, their slow copies that are kept in the end, and the optimiser."""

    def __init__(self, detector: Detector, images: Sequence[Tensor], schedule: Schedule, rule: Constraint) -> None:
        self.detector = detector
        self.images = images
        self.schedule = schedule
        self.rule = rule
        self.features: list[Tensor] = []  # the teacher's, cached: DFSC augments nothing
        self.networks = nn.ModuleDict({"student": detector.student, "autoencoder": detector.autoencoder})
        self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.slow = torch.optim.swa_utils.AveragedModel(
            self.networks,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY),  # type: ignore[no-untyped-call]
        )
        self.optimiser = AdamW(
            self.networks.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {name: getattr(self, name).state_dict() for name in ("networks", "slow", "optimiser")}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    @torch.inference_mode()
    def cache_teacher(self, progress: Progress) -> None:
        """Compute the teacher's features of all images once, and standardise them channel by channel."""
        for done, image in enumerate(self.images, start=1):
            self.features.append(self.detector.teacher(image).half())
            progress("learning features", done, len(self.images))
        mean = torch.stack([item.float().mean(dim=(0, 2, 3)) for item in self.features]).mean(dim=0).view(1, -1, 1, 1)
        variance = torch.stack([(item.float() - mean).square().mean(dim=(0, 2, 3)) for item in self.features]).mean(
            dim=0
        )
        self.detector.teacher_mean.copy_(mean)
        self.detector.teacher_std.copy_(variance.sqrt().clamp(min=1e-6).view(1, -1, 1, 1))

    def step(self, step: int) -> Losses:
        """One step of Eq 7 on one image: the auto-encoder sees all of it, the student a crop (exact, being unpadded).

        What is drawn depends on seed and step alone, so a resumed training is the same training.
        """
        draw = np.random.default_rng((self.schedule.seed, step))
        index = int(draw.integers(len(self.images)))
        top, left = (int(corner) for corner in draw.integers(0, GRID - CROP + 1, size=2))
        crop = (..., slice(top, top + CROP), slice(left, left + CROP))
        image = self.detector.normalise(self.images[index]).contiguous(memory_format=torch.channels_last)
        teacher = (self.features[index].float() - self.detector.teacher_mean) / self.detector.teacher_std
        autoencoder = self.detector.autoencoder(image)
        student = self.detector.student(crop_for_student(image, top, left))
        result = losses(
            teacher,
            student,
            autoencoder,
            teacher_crop=teacher[crop],
            autoencoder_crop=autoencoder[crop],
            rule=self.rule,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        self.optimiser.zero_grad()
        result.total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.slow.update_parameters(self.networks)
        return result

    def finish(self) -> None:
        """Put the slow copies, which are evaluated and exported, into the detector."""
        self.networks.load_state_dict(self.slow.module.state_dict())


def crop_for_student(image: Tensor, top: int, left: int, cells: int = CROP) -> Tensor:
    """The part of a network image whose student features are the grid cells from (top, left) on, cells x cells."""
    side = RECEPTIVE_FIELD + STRIDE * (cells - 1)
    padded = pad_for_student(image)
    return padded[..., STRIDE * top : STRIDE * top + side, STRIDE * left : STRIDE * left + side]


def fit(
    detector: Detector, images: Sequence[Tensor], schedule: Schedule, rule: Constraint, *, checkpoint: Path, key: str,
    progress: Progress,
) -> float:  # fmt: skip
    """Train the detector's student and auto-encoder in place, from the checkpoint on if there is one with this key.

    Returns:
        seconds spent, those before an interruption included.
    """
    started = time.monotonic()
    trainer = Trainer(detector, images, schedule, rule)
    trainer.cache_teacher(progress)
    first, spent = 0, 0.0
    if earlier := Checkpoint.load(checkpoint, key):
        trainer.restore(earlier.state)
        first, spent = earlier.step, earlier.seconds
    saved = time.monotonic()
    for step in range(first, schedule.steps):
        result = trainer.step(step)
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == schedule.steps:
            loss = result.total.item()
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} after {step + 1} steps: train with another --seed")
            progress("training", step + 1, schedule.steps, f"loss {loss:.3f}")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or step + 1 == schedule.steps:
            Checkpoint(key, step + 1, spent + time.monotonic() - started, trainer.state()).save(checkpoint)
            saved = time.monotonic()
    trainer.finish()
    return spent + time.monotonic() - started
