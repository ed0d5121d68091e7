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

from models.comgen.denoiser import Denoiser
from models.comgen.network import Network
from models.comgen.scene import Scene
from models.comgen.tokens import Prompts, batch
from models.loop import learn
from models.progress import Progress

WARM_UP_SHARE = 0.05  # of the steps
AVERAGED_SHARE = 1 / 6  # of the steps, at most, go into the moving average
GAMMA = 5.0  # of min-SNR
LEAST_ATTENTION = 1e-6  # so that its logarithm is finite


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
        return (
            self.learning_rate * min((step + 1) / (WARM_UP_SHARE * self.steps), 1) * (1 + math.cos(math.pi * share)) / 2
        )

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
    """Learn a product's components with a compact denoiser that starts from nothing, and return it for use.

    What is learned from and raised is as in `learn_components`; the vocabulary has `components` of at most `modes`
    adjectives each.
    """
    torch.manual_seed(settings.seed)
    denoiser = Denoiser(components, modes)
    learn_components(denoiser, scenes, erased, settings=settings, checkpoint=checkpoint, key=key, progress=progress)
    return denoiser


def learn_components(
    network: Network,
    scenes: Sequence[Scene],
    erased: Sequence[Scene],
    *,
    settings: DenoiserSettings,
    checkpoint: Path,
    key: str,
    progress: Progress,
) -> None:
    """Train what is to be learned of a network in place, from the checkpoint on if there is one with this key.

    Args:
        network: compact, or of full size.
        scenes: good pictures and all that is in them.
        erased: good pictures from which a component was taken away, and its token with it.
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
    learner = Learner(network, scenes, erased, settings)
    learn(
        learner,
        settings.steps,
        stage="learning components",
        started=time.monotonic(),
        checkpoint=checkpoint,
        key=key,
        progress=progress,
    )
    learner.finish()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What one step learns from: B pictures, their prompts, and where they are judged."""

    latent: Tensor  # (B, C, s, s)
    prompts: Prompts
    weight: Tensor  # (B, 1, s, s) in 0..1


class Learner:
    """The network in training, the slow copy that is kept of its learned part in the end, and the optimiser."""

    def __init__(
        self, network: Network, scenes: Sequence[Scene], erased: Sequence[Scene], settings: DenoiserSettings
    ) -> None:
        self.network = network
        self.learned = network.learned.train()
        self.settings = settings
        self.good, self.erased = len(scenes), len(erased)
        together = [*scenes, *erased]
        self.latents = torch.cat([network.encode(scene.image[None]) for scene in together])
        self.prompts = batch([scene.tokens for scene in together])
        average = get_ema_multi_avg_fn(settings.decay)  # type: ignore[no-untyped-call]
        self.slow = AveragedModel(self.learned, multi_avg_fn=average)
        self.optimiser = AdamW(
            self.learned.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {name: getattr(self, name).state_dict() for name in ("learned", "slow", "optimiser")}

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
        self.slow.update_parameters(self.learned)
        return loss.detach()

    def sample(self, draw: np.random.Generator) -> Sample:
        """Pictures with and without something erased; some told of a few components only, some not told where."""
        prompts = self.prompts[index := self._index(draw)]
        count = len(index)
        placed = torch.from_numpy(draw.random((count, 1)) >= self.settings.unplaced_share)
        few = torch.from_numpy(draw.random((count, 1)) < self.settings.union_share)
        picked = torch.from_numpy(draw.random(prompts.present.shape) < 0.5) & prompts.present
        few &= picked.any(dim=1, keepdim=True)
        prompts = replace(prompts, boxed=prompts.boxed & placed, present=torch.where(few, picked, prompts.present))
        union = (prompts.mask * prompts.present[..., None, None]).sum(dim=1, keepdim=True).clamp(max=1)
        weight = torch.where(few[..., None, None], union, 1.0)
        return Sample(self.latents[index], prompts, F.adaptive_avg_pool2d(weight, self.latents.shape[-1]))

    def _index(self, draw: np.random.Generator) -> Tensor:
        """Which of the scenes, those with something erased behind the others, (batch,)."""
        count = self.settings.batch
        whole = draw.integers(self.good, size=count)
        lacking = self.good + draw.integers(max(1, self.erased), size=count)
        erased = (draw.random(count) < self.settings.erased_share) & (self.erased > 0)
        return torch.from_numpy(np.where(erased, lacking, whole))

    def loss(self, sample: Sample, draw: np.random.Generator) -> Tensor:
        """Of noise and times drawn anew.

        Returns:
            (): min-SNR weighted error of the prediction (Hang et al. 2023), within a mask where there is one
            (Break-A-Scene, Avrahami et al. 2023, Eq 1), + attention + InfoNCE.
        """
        generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
        noise = torch.randn(sample.latent.shape, generator=generator)
        times = self._times(draw, len(noise))
        noisy = self.network.schedule.add_noise(sample.latent, noise, times)
        predicted, maps = self.network(noisy, times, sample.prompts)
        squares = sample.weight * (predicted - self._wanted(sample.latent, noise, times)).square()
        error = squares.mean(dim=(1, 2, 3)) / sample.weight.mean(dim=(1, 2, 3))
        return (
            (self.importance(times) * error).mean()
            + self.settings.attention_weight * attention_error(maps, sample.prompts)
            + self.settings.contrast_weight * self.network.vocabulary.contrast()
        )

    def _times(self, draw: np.random.Generator, count: int) -> Tensor:
        """One time in each of `count` parts of the schedule, (count,): a step sees weak and strong noise."""
        shares = (np.arange(count) + draw.random(count)) / count
        return torch.from_numpy((shares * self.network.schedule.config.num_train_timesteps).astype(np.int64))

    def _wanted(self, latent: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the network is to predict, (B, C, s, s)."""
        if self.network.schedule.config.prediction_type == "epsilon":
            return noise
        wanted: Tensor = self.network.schedule.get_velocity(latent, noise, times)
        return wanted

    def importance(self, times: Tensor) -> Tensor:
        """min(SNR, gamma) over SNR for noise, over SNR + 1 for velocity (Hang et al. 2023, section 3.4), (B,)."""
        alpha: Tensor = self.network.schedule.alphas_cumprod[times]
        ratio = alpha / (1 - alpha)
        offset = 0 if self.network.schedule.config.prediction_type == "epsilon" else 1
        return ratio.clamp(max=GAMMA) / (ratio + offset)

    def finish(self) -> None:
        """Put the slow copy, which is used, into the network."""
        self.learned.load_state_dict(self.slow.module.state_dict())
        self.learned.eval().requires_grad_(requires_grad=False)


def attention_error(maps: Sequence[Tensor], prompts: Prompts) -> Tensor:
    """Cross-entropy of the attention and the masks, every word counting alike, however small what it names is.

    Break-A-Scene (Avrahami et al. 2023, Eq 2) has squares here. Their gradient vanishes with the attention, and from
    random weights all of it went to the background and stayed there.

    Args:
        maps: (B, 1 + T, s, s) a layer, background first.
        prompts: with their masks.

    Returns:
        (): mean over words and layers; 0 is all of the attention where it belongs.
    """
    masks = prompts.shared_masks()
    wanted = torch.cat([(1 - masks.sum(dim=1, keepdim=True)).clamp(min=0), masks], dim=1)
    errors = []
    for attention in maps:
        mask = F.adaptive_avg_pool2d(wanted, attention.shape[-1])
        area = mask.sum(dim=(2, 3))
        error = -(mask * attention.clamp(min=LEAST_ATTENTION).log()).sum(dim=(2, 3)) / area.clamp(min=1e-3)
        errors.append(error[area > 0].mean())
    return torch.stack(errors).mean()
