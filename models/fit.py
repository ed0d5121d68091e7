"""Trains a detector's networks on network images with the DFSC loss. Knows no file but its checkpoint."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.corpus import as_tensor, shrink, texture
from models.detector import Detector
from models.dfsc import Outputs, total_loss
from models.grid import GRID, crop_for_pdn
from models.loop import learn
from models.progress import Progress
from models.teacher import channel_moments

CROP = 24  # grid cells along a side of the crop that the student is trained on
AVERAGED_SHARE = 1 / 6  # of the steps, at most, go into the moving average of the networks
WARM_UP_SHARE = 0.03  # of the steps, until the learning rate is 95 % of its value
DROP_SHARE = 0.9  # of the steps, after which the learning rate is a tenth
JITTER = (0.8, 1.2)  # EfficientAD's augmentation: factors of brightness, contrast or saturation


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to learn; warm-up, moving average and the last drop of the learning rate follow from the steps."""

    steps: int
    seed: int
    learning_rate: float
    crop: int = CROP  # grid cells along a side; GRID is the full map

    def rate_at(self, step: int) -> float:
        """Learning rate: exponential warm-up (Ma & Yarats 2021) scaled to the number of steps; a tenth near the end."""
        warm = 1 - np.exp(-3 * (step + 1) / (WARM_UP_SHARE * self.steps))
        return float(self.learning_rate * warm * (0.1 if step >= DROP_SHARE * self.steps else 1))

    def momentum(self, wanted: float) -> float:
        """The report's 0.99 averages over 100 steps of 70,000: never over too large a share of a short training."""
        return min(wanted, max(0.0, 1 - 1 / (AVERAGED_SHARE * self.steps)))


class Trainer:
    """The networks in training, their slow copies that are kept in the end, and the optimiser."""

    def __init__(self, detector: Detector, images: Sequence[Tensor], schedule: Schedule) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.detector = detector.to(self.device)
        self.method = detector.method
        self.images = images
        self.schedule = schedule
        self.features: list[Tensor] = []  # the teacher's, cached
        if detector.student is None or detector.autoencoder is None:
            raise ValueError("a method without a student has nothing to train")
        self.networks = nn.ModuleDict({"student": detector.student, "autoencoder": detector.autoencoder}).train()
        average = get_ema_multi_avg_fn(schedule.momentum(self.method.momentum))  # type: ignore[no-untyped-call]
        self.slow = AveragedModel(self.networks, multi_avg_fn=average)
        self.optimiser = AdamW(
            self.networks.parameters(), lr=schedule.learning_rate, weight_decay=self.method.weight_decay, fused=True
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {name: getattr(self, name).state_dict() for name in ("networks", "slow", "optimiser")}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""
        self.detector.to(self.device)
        self.networks.train()
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def cache_teacher(self, progress: Progress) -> None:
        """Compute the teacher's features of all images once, and standardise them channel by channel."""
        self.features = fit_teacher(self.detector, self.images, progress)

    def step(self, step: int) -> Tensor:
        """One step of Eq 7 on one image: the auto-encoder sees all of it, the student a crop (exact, being unpadded).

        What is drawn depends on seed and step alone, so a resumed training is the same training.

        Returns:
            the loss, ().
        """
        draw = np.random.default_rng((self.schedule.seed, step))
        torch.manual_seed(int(draw.integers(2**31)))  # of the dropout
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast_bfloat16(self.device)):
            outputs = self._outputs(draw)
        loss = total_loss(outputs, self.method)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.slow.update_parameters(self.networks)
        return loss.detach()

    def finish(self) -> None:
        """Put the slow copies, which are evaluated and exported, into the detector."""
        self.networks.load_state_dict(self.slow.module.state_dict())
        self.networks.eval()
        self.detector.cpu()

    def _outputs(self, draw: np.random.Generator) -> Outputs:
        index, cells = int(draw.integers(len(self.images))), self.schedule.crop
        top, left = (int(corner) for corner in draw.integers(0, GRID - cells + 1, size=2))
        crop = (..., slice(top, top + cells), slice(left, left + cells))
        image = self.images[index].to(self.device)
        teacher = self.detector.standardise(self.features[index].float())
        student_teacher, student_autoencoder = self._student(image, top, left)
        seen, teacher_seen = image, teacher
        if self.method.augmentation:
            seen = jitter(image, draw)
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                teacher_seen = self.detector.teacher_features(seen)
            _, student_autoencoder = self._student(seen, top, left)
        normalised = self.detector.normalise(seen).contiguous(memory_format=torch.channels_last)
        autoencoder = self.networks["autoencoder"](normalised).float()
        return Outputs(
            teacher=teacher_seen,
            autoencoder=autoencoder,
            teacher_crop=teacher[crop],
            student_teacher=student_teacher,
            autoencoder_crop=autoencoder[crop],
            student_autoencoder=student_autoencoder,
            student_elsewhere=self._student(stranger(draw).to(self.device), top, left)[0]
            if self.method.penalty
            else None,
        )

    def _student(self, image: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
        """Both halves of the student on the crop from a grid cell on."""
        crop = crop_for_pdn(self.detector.normalise(image), top, left, self.schedule.crop)
        features = self.networks["student"](crop.contiguous(memory_format=torch.channels_last)).float()
        teacher, autoencoder = features.chunk(2, dim=1)
        return teacher, autoencoder


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 numbers itself; without that they are slower than floats."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - there is no public question


def jitter(image: Tensor, draw: np.random.Generator) -> Tensor:
    """EfficientAD's augmentation (section 3.2): brightness, contrast or saturation times 0.8 to 1.2."""
    factor, kind = float(draw.uniform(*JITTER)), int(draw.integers(3))
    if kind == 0:
        return (image * factor).clamp(0, 1)
    grey = image.mean(dim=1, keepdim=True) if kind == 1 else image.mean()
    return (grey + factor * (image - grey)).clamp(0, 1)


def stranger(draw: np.random.Generator) -> Tensor:
    """A picture of something else, (1, 3, 256, 256); EfficientAD takes ImageNet, which cannot be had everywhere."""
    return as_tensor(shrink(texture(draw)))


@torch.inference_mode()
def fit_teacher(detector: Detector, images: Sequence[Tensor], progress: Progress) -> list[Tensor]:
    """Fit how the teacher's features are standardised, channel by channel; returns them as they are, in half precision.

    Args:
        detector: its buffers are written.
        images: network images (1, 3, 256, 256).
        progress: told about every image.
    """
    features = []
    for done, image in enumerate(images, start=1):
        features.append(detector.teacher(image.to(detector.teacher_mean.device)).half())
        progress("learning features", done, len(images))
    mean, deviation = channel_moments(features)
    detector.teacher_mean.copy_(mean)
    detector.teacher_std.copy_(deviation)
    return features


def fit(
    detector: Detector, images: Sequence[Tensor], schedule: Schedule, *, checkpoint: Path, key: str, progress: Progress,
) -> float:  # fmt: skip
    """Train the detector's student and auto-encoder in place, from the checkpoint on if there is one with this key.

    Returns:
        seconds spent, those before an interruption included.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    started = time.monotonic()
    trainer = Trainer(detector, images, schedule)
    trainer.cache_teacher(progress)
    earlier = learn(
        trainer, schedule.steps, stage="training", started=started, checkpoint=checkpoint, key=key, progress=progress
    )
    trainer.finish()
    return earlier + time.monotonic() - started
