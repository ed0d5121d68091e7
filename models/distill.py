"""Distils a backbone's features into a PDN (Batzner et al. 2023, section 3.1): a teacher that sees 33 pixels.

Knows no product; what it learns from is any pictures.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from models.backbone import WideResNet101
from models.corpus import as_tensor, photographs, shrink, view
from models.data import DataError
from models.efficientad import Size, pdn
from models.grid import GRID, IMAGENET_MEAN, IMAGENET_STD, crop_for_pdn
from models.loop import learn
from models.progress import Progress
from models.teacher import Lite0Teacher, channel_moments

CELLS = 12  # grid cells along a side of a crop
BATCH = 4  # views a step
BORDER = 4  # cells along the view's border that are not learned: the backbone's own padding reaches in there
HELD_OUT = 0.05  # of the photographs
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-5


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """Everything that, with the photographs, determines the result."""

    size: Size = "small"
    backbone: str = "efficientnet-lite0"
    views: int = 1500
    steps: int = 20_000
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A view as a PDN sees it, and what the backbone says of it."""

    image: Tensor  # (1, 3, 256, 256), normalised
    features: Tensor  # (1, C, 64, 64) half precision, not standardised


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a distillation has come to."""

    path: Path
    held_out_error: float  # mean squared error of standardised features on photographs that were not learned; 1 = mean
    seconds: float


def distill(
    folder: Path, backbone: nn.Module, settings: DistillSettings, *, out: Path, progress: Progress
) -> Distilled:
    """Distil a backbone into a PDN and save it in half precision, with a record of its making as metadata.

    The PDN's features are standardised channel by channel. A killed run goes on from its checkpoint beside `out`.

    Args:
        folder: of photographs, folders within it included.
        backbone: (B, 3, 512, 512) in 0..1 -> (B, C, 64, 64).
        settings: how much and how long.
        out: the safetensors file to write.
        progress: told about every stage.

    Raises:
        DataError: there are too few pictures, or one cannot be read.
        FloatingPointError: the loss is no longer finite.
    """
    started = time.monotonic()
    learned, held_out = split(photographs(folder), settings.seed)
    rng = np.random.default_rng(settings.seed)
    held_out_views = max(8, settings.views // 20)
    examples = describe(backbone, learned, rng, settings.views, stage="describing views", progress=progress)
    judged = describe(backbone, held_out, rng, held_out_views, stage="describing held-out views", progress=progress)
    mean, deviation = channel_moments([item.features for item in examples])
    torch.manual_seed(settings.seed)
    network = pdn(settings.size, mean.shape[1])
    checkpoint = out.with_suffix(".checkpoint")
    key = hashlib.sha256(repr((settings, [(path.name, path.stat().st_size) for path in learned])).encode()).hexdigest()
    learner = Distiller(network, examples, (mean, deviation), settings)
    earlier = learn(
        learner, settings.steps, stage="distilling", started=started, checkpoint=checkpoint, key=key, progress=progress
    )
    error = held_out_error(network, judged, mean, deviation)
    record = asdict(settings) | {"photographs": len(learned), "held_out_error": round(error, 4)}
    _save(network, out, record)
    checkpoint.unlink(missing_ok=True)
    return Distilled(out, error, earlier + time.monotonic() - started)


def open_backbone(wide_resnet: Path | None) -> tuple[nn.Module, str]:
    """The network to distil, and what to call it: WideResNet-101 from a file of weights, else EfficientNet-Lite0.

    Raises:
        DataError: the file does not hold its weights.
    """
    if wide_resnet is None:
        return Lite0Teacher(), "efficientnet-lite0"
    fingerprint = hashlib.sha256(wide_resnet.read_bytes()).hexdigest()[:12]
    return WideResNet101(wide_resnet), f"wide_resnet101_2 {fingerprint}"


def split(photos: Sequence[Path], seed: int) -> tuple[list[Path], list[Path]]:
    """Photographs to learn from and, apart from them, to judge by; both have at least one.

    Raises:
        DataError: there is but one photograph.
    """
    if len(photos) < 2:
        raise DataError(f"{photos[0].parent} holds one picture, too few: hundreds of all sorts of things are wanted")
    order = np.random.default_rng(seed).permutation(len(photos))
    cut = max(1, round(HELD_OUT * len(photos)))
    shuffled = [photos[index] for index in order]
    return shuffled[cut:], shuffled[:cut]


@torch.inference_mode()
def describe(
    backbone: nn.Module, photos: Sequence[Path], rng: np.random.Generator, count: int, *, stage: str, progress: Progress
) -> list[Example]:
    """Draw views and let the backbone describe each, averaged over 3 x 3 cells (EfficientAD's patchified features)."""
    examples = []
    for done in range(1, count + 1):
        seen = view(photos, rng)
        features = F.avg_pool2d(backbone(as_tensor(seen)), 3, stride=1, padding=1, count_include_pad=False)
        examples.append(Example((as_tensor(shrink(seen)) - IMAGENET_MEAN) / IMAGENET_STD, features.half()))
        progress(stage, done, count)
    return examples


class Distiller:
    """The PDN in training, and its optimiser."""

    def __init__(
        self,
        network: nn.Module,
        examples: Sequence[Example],
        moments: tuple[Tensor, Tensor],
        settings: DistillSettings,
    ) -> None:
        self.network = network
        self.examples = examples
        self.moments = moments
        self.settings = settings
        self.optimiser = AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that changes while training."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from a state."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step: int) -> Tensor:
        """One step on crops of some views, drawn by seed and step alone; returns the loss, ()."""
        images, wanted = _batch(self.examples, self.moments, np.random.default_rng((self.settings.seed, step)))
        loss = F.mse_loss(self.network(images), wanted)
        for group in self.optimiser.param_groups:
            group["lr"] = LEARNING_RATE * _rate(step / self.settings.steps)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()


@torch.inference_mode()
def held_out_error(network: nn.Module, examples: Sequence[Example], mean: Tensor, deviation: Tensor) -> float:
    """Mean squared error over all cells inside the border; 1 is what the mean alone would have."""
    cells = GRID - 2 * BORDER
    inner = (..., slice(BORDER, BORDER + cells), slice(BORDER, BORDER + cells))
    errors = []
    for item in examples:
        wanted = (item.features[inner].float() - mean) / deviation
        errors.append((network(crop_for_pdn(item.image, BORDER, BORDER, cells)) - wanted).square().mean().item())
    return float(np.mean(errors))


def _rate(share: float) -> float:
    """Share of the learning rate: up over the first twentieth, then down along a cosine."""
    return min(share / 0.05, 1.0) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def _batch(
    examples: Sequence[Example], moments: tuple[Tensor, Tensor], draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crops of some views (BATCH, 3, s, s) and the standardised features (BATCH, C, CELLS, CELLS) wanted of them."""
    mean, deviation = moments
    images, wanted = [], []
    for index in draw.integers(len(examples), size=BATCH):
        top, left = (int(corner) for corner in draw.integers(BORDER, GRID - BORDER - CELLS + 1, size=2))
        item = examples[int(index)]
        images.append(crop_for_pdn(item.image, top, left, CELLS))
        wanted.append(item.features[..., top : top + CELLS, left : left + CELLS].float())
    stacked = torch.cat(images).contiguous(memory_format=torch.channels_last)
    return stacked, (torch.cat(wanted) - mean) / deviation


def _save(network: nn.Module, out: Path, record: dict[str, object]) -> None:
    partial = out.with_suffix(".partial")
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, partial, metadata={"inspector": json.dumps(record)})
    partial.replace(out)
