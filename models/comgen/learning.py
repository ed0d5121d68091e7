"""Trains the compact denoiser on scenes (ComGEN's multi-component learning). Knows no file but its checkpoint."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.comgen.denoiser import TIMES, Denoiser, noise_schedule
from models.comgen.scene import Scene
from models.comgen.tokens import Prompts, batch
from models.loop import learn
from models.progress import Progress

WARM_UP_SHARE = 0.05  # of the steps
AVERAGED_SHARE = 1 / 6  # of the steps, at most, go into the moving average
GAMMA = 5.0  # of min-SNR


@dataclass(frozen=True, slots=True)
class DenoiserSettings:
    """Everything that, with the scenes, determines the result."""

    steps: int = 2000
    seed: int = 0
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    momentum: float = 0.999  # of the moving average that is kept
    erased_share: float = 0.3  # of the pictures drawn have a component erased: without it no token can be dropped
    union_share: float = 0.25  # are judged where a few of their components are, and told of these alone
    unplaced_share: float = 0.5  # are told what there is and not where
    attention_weight: float = 0.1
    contrast_weight: float = 5e-4

    def rate_at(self, step: int) -> float:
        """Learning rate: up in a line, then down along a cosine."""
        share = step / self.steps
        return self.learning_rate * min((step + 1) / (WARM_UP_SHARE * self.steps), 1) * (1 + math.cos(math.pi * share)) / 2

    @property
    def decay(self) -> float:
        """Of the moving average: never over too large a share of a short training."""
        return min(self.momentum, max(0.0, 1 - 1 / (AVERAGED_SHARE * self.steps)))


def train_denoiser(
    scenes: Sequence[Scene],
    erased: Sequence[Scene],
    *,
    components: int,
    modes: int,
    settings: DenoiserSettings,
    checkpoint: Path,
    key: str,
    progress: Progress,
) -> Denoiser:
    """Learn a product's components, from the checkpoint on if there is one with this key.

    Args:
        scenes: good pictures and all that is in them.
        erased: good pictures from which a component was taken away, and its token with it.
        components: in the vocabulary.
        modes: adjectives a component can have, at most.
        settings: how long, and what of.
        checkpoint: written every now and then, and at the end.
        key: names the training: scenes and settings.
        progress: told the loss.

    Raises:
        FloatingPointError: the loss is no longer finite.
        IndexError: a token is not in the vocabulary.
        ValueError: there are no scenes.
    """
    if not scenes:
        raise ValueError("a denoiser learns from one scene at least")
    torch.manual_seed(settings.seed)
    learner = Learner(Denoiser(components, modes), scenes, erased, settings)
    learn(
        learner,
        settings.steps,
        stage="learning components",
        started=time.monotonic(),
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    return learner.result()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What one step learns from: B pictures, their prompts, and where they are judged."""

    image: Tensor  # (B, 3, 64, 64) in -1..1
    prompts: Prompts
    weight: Tensor  # (B, 1, 64, 64) in 0..1


class Learner:
    """The denoiser in training, its slow copy that is kept in the end, and the optimiser."""

    def __init__(
        self, denoiser: Denoiser, scenes: Sequence[Scene], erased: Sequence[Scene], settings: DenoiserSettings
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.denoiser = denoiser.train().to(self.device)
        self.settings = settings
        self.good, self.erased = len(scenes), len(erased)
        together = [*scenes, *erased]
        self.images = torch.stack([scene.image for scene in together]) * 2 - 1
        self.prompts = batch([scene.tokens for scene in together])
        self.schedule = noise_schedule()
        average = get_ema_multi_avg_fn(settings.decay)  # type: ignore[no-untyped-call]
        self.slow = AveragedModel(self.denoiser, multi_avg_fn=average)
        self.optimiser = AdamW(
            self.denoiser.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {name: getattr(self, name).state_dict() for name in ("denoiser", "slow", "optimiser")}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""
        for name, values in state.items():
            getattr(self, name).load_state_dict(values)

    def step(self, step: int) -> Tensor:
        """One step on pictures, noise and times drawn by seed and step alone; returns the loss, ()."""
        draw = np.random.default_rng((self.settings.seed, step))
        sample = self.sample(draw)
        loss = self.loss(sample, draw)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate_at(step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.slow.update_parameters(self.denoiser)
        return loss.detach()

    def sample(self, draw: np.random.Generator) -> Sample:
        """Pictures with and without something erased; some told of a few components only, some not told where."""
        count = self.settings.batch
        erased = (draw.random(count) < self.settings.erased_share) & (self.erased > 0)
        index = np.where(erased, self.good + draw.integers(max(1, self.erased), size=count), draw.integers(self.good, size=count))
        prompts = self.prompts[torch.from_numpy(index)]
        placed = torch.from_numpy(draw.random((count, 1)) >= self.settings.unplaced_share)
        prompts = replace(prompts, boxed=prompts.boxed & placed)
        picked = torch.from_numpy(draw.random(prompts.present.shape) < 0.5) & prompts.present
        union = torch.from_numpy(draw.random((count, 1)) < self.settings.union_share) & picked.any(dim=1, keepdim=True)
        prompts = prompts.keeping(picked | ~union)
        masks = (prompts.mask * prompts.present[..., None, None]).sum(dim=1, keepdim=True).clamp(max=1)
        return Sample(self.images[index], prompts, torch.where(union[..., None, None], masks, 1.0))

    def loss(self, sample: Sample, draw: np.random.Generator) -> Tensor:
        """Of noise and times drawn anew.

        Returns:
            (): min-SNR weighted error of the velocity (Hang et al. 2023; Break-A-Scene's Eq 1 for the mask)
            + attention + InfoNCE.
        """
        count = len(sample.image)
        generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
        noise = torch.randn(sample.image.shape, generator=generator)
        times = torch.from_numpy(spread_times(draw, count))
        noisy = self.schedule.add_noise(sample.image, noise, times)
        wanted = self.schedule.get_velocity(sample.image, noise, times)
        velocity, maps = self.denoiser(noisy, times, sample.prompts)
        error = (sample.weight * (velocity - wanted).square()).mean(dim=(1, 2, 3)) / sample.weight.mean(dim=(1, 2, 3))
        return (
            (self.importance(times) * error).mean()
            + self.settings.attention_weight * attention_error(maps, sample.prompts)
            + self.settings.contrast_weight * self.denoiser.vocabulary.contrast()
        )

    def importance(self, times: Tensor) -> Tensor:
        """min(SNR, gamma) / (SNR + 1): min-SNR (Hang et al. 2023, section 3.4) of a velocity, (B,)."""
        alpha = self.schedule.alphas_cumprod[times]
        ratio = alpha / (1 - alpha)
        return ratio.clamp(max=GAMMA) / (ratio + 1)

    def result(self) -> Denoiser:
        """The slow copy, to be used."""
        self.denoiser.load_state_dict(self.slow.module.state_dict())
        return self.denoiser.eval().requires_grad_(requires_grad=False).cpu()


def spread_times(draw: np.random.Generator, count: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """One time in each of `count` parts of the schedule: a batch sees weak and strong noise."""
    return ((np.arange(count) + draw.random(count)) / count * TIMES).astype(np.int64)


def attention_error(maps: Sequence[Tensor], prompts: Prompts) -> Tensor:
    """How far the tokens' attention is from their masks (Break-A-Scene, Avrahami et al. 2023, Eq 2).

    Squares are summed over the picture and divided by the mask's, so that small parts count as large ones do.

    Args:
        maps: (B, 1 + T, s, s) a layer, background first.
        prompts: with their masks.

    Returns:
        (): mean over the tokens that are there, and over layers; 1 is no attention at all.
    """
    masks = prompts.shared_masks()
    errors = []
    for attention in maps:
        wanted = F.adaptive_avg_pool2d(masks, attention.shape[-1])
        squares = (attention[:, 1:] - wanted).square().sum(dim=(2, 3)) / wanted.square().sum(dim=(2, 3)).clamp(min=0.5)
        errors.append((squares * prompts.present).sum() / prompts.present.sum().clamp(min=1))
    return torch.stack(errors).mean()
