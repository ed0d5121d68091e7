"""Makeshift anomalies: cheap edits of good images, to choose by where there are no labels. Knows no network.

They are not learned from. Where a product has components, ComGEN's generated anomalies stand beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.corpus import shrink, texture
from models.grid import NETWORK_SIDE

Pixels: TypeAlias = npt.NDArray[np.float32]  # (256, 256, 3) in 0..1
Mask: TypeAlias = npt.NDArray[np.float32]  # (256, 256) in 0..1, how much of the edit shows
Edit: TypeAlias = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Mask]]

LEAST_CHANGE = 0.03  # of the range, of three in ten of the edited pixels: less is no anomaly that could be seen
GREY = 2 / 255  # of difference between the channels, at most: such an image is edited in grey
TRIES = 20
GENERATED = "generated"  # the kind of those that ComGEN has made


@dataclass(frozen=True, slots=True, eq=False)
class Fake:
    """A good image, edited."""

    image: Tensor  # (1, 3, 256, 256) in 0..1
    kind: str
    mask: Tensor  # (256, 256) in 0..1, how much of the edit shows


def make_fakes(images: Sequence[Tensor], seed: int, *, per_kind: int, region: Tensor | None = None) -> list[Fake]:
    """Edit good network images (1, 3, 256, 256): at most so many of each kind, of differing strength.

    An edit that changes next to nothing in the region (1, 1, h, w) that is inspected is drawn again; a kind of edit
    that a product does not show at all (parts that match always) is left out.
    """
    rng = np.random.default_rng(seed)
    sources = [image[0].permute(1, 2, 0).numpy() for image in images]
    inspected = np.ones((NETWORK_SIDE, NETWORK_SIDE), bool)
    if region is not None:
        inspected = F.interpolate(region, size=inspected.shape)[0, 0].numpy() > 0
    fakes = [_fake(sources, kind, edit, inspected, rng) for kind, edit in EDITS.items() for _ in range(per_kind)]
    return [fake for fake in fakes if fake]


def _fake(
    sources: Sequence[Pixels], kind: str, edit: Edit, inspected: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Fake | None:
    for _ in range(TRIES):
        source, other = (sources[int(index)] for index in rng.integers(len(sources), size=2))
        edited, mask = edit(source, other, rng)
        result = np.clip(source + mask[:, :, None] * (edited - source), 0, 1)
        if np.ptp(source, axis=2).max() < GREY:
            result = np.repeat(result.mean(axis=2, keepdims=True), 3, axis=2)
        changed = np.abs(result - source).max(axis=2)[(mask > 0.5) & inspected]
        if changed.size and (changed > LEAST_CHANGE).mean() > 0.3:
            image = torch.from_numpy(result.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
            return Fake(image, kind, torch.from_numpy(mask))
    return None


def _cut_paste(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A patch of the image itself at another place (CutPaste, Li et al. 2021)."""
    mask = _box(rng, 10, 60)
    return _moved(source, rng), _soft(mask, 1)


def _stranger(_source: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A larger piece of another good image at another place: a part too many, or misplaced."""
    mask = _box(rng, 40, 110)
    return _moved(other, rng), _soft(mask, 3)


def _missing(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A region filled from its surroundings: a part missing."""
    mask = _blob(rng, 0.01, 0.08)
    filled = cv2.inpaint((255 * source).astype(np.uint8), (mask > 0.5).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return np.asarray(filled / 255, np.float32), _soft(mask, 1)


def _scratch(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A thin, bent line, lighter or darker."""
    mask = np.zeros(source.shape[:2], np.float32)
    steps = rng.normal(0, 6, (int(rng.integers(3, 12)), 2)).cumsum(axis=0) + rng.normal(0, 6, 2)
    points = (rng.uniform(20, NETWORK_SIDE - 20, 2) + steps.cumsum(axis=0)).astype(np.int32)
    cv2.polylines(mask, [points], isClosed=False, color=1.0, thickness=int(rng.integers(1, 4)), lineType=cv2.LINE_AA)
    return source + np.float32(rng.choice((-1, 1)) * rng.uniform(0.15, 0.5)), _soft(mask, 0.6)


def _stain(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A cloudy patch, tinted."""
    tint = rng.uniform(-0.2, 0.2, 3).astype(np.float32)
    return source * np.float32(rng.uniform(0.7, 1.3)) + tint, _soft(_blob(rng, 0.001, 0.03), 3)


def _foreign(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A patch of some other surface (Perlin-noise anomalies of DRAEM, Zavrtanik et al. 2021)."""
    surface = shrink(texture(rng)).astype(np.float32) / 255
    share = np.float32(rng.uniform(0.3, 0.9))
    return np.asarray(source + share * (surface - source), np.float32), _soft(_blob(rng, 0.001, 0.05), 1)


def _mismatched(_source: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A region as another good image has it there: the wrong label on the right bottle, if the product has kinds."""
    return other, _soft(_blob(rng, 0.03, 0.2), 2)


def _recoloured(source: Pixels, _other: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """All that has one colour in another, or lighter or darker: the right part of the wrong kind."""
    y, x = rng.integers(30, NETWORK_SIDE - 30, 2)
    chosen = source[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1))
    near = np.exp(-np.square(source - chosen).sum(axis=2) / np.float32(2 * 0.1**2))
    shift = rng.normal(0, 0.08, 3).astype(np.float32)
    return source + shift, _soft(near.astype(np.float32), 1)


EDITS: dict[str, Edit] = {
    "cut and paste": _cut_paste,
    "stranger": _stranger,
    "missing": _missing,
    "scratch": _scratch,
    "stain": _stain,
    "foreign surface": _foreign,
    "mismatched": _mismatched,
    "recoloured": _recoloured,
}


def _moved(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The image shifted by at least an eighth of its side, round its edges, perhaps mirrored."""
    side = image.shape[0]
    shift = rng.integers(side // 8, side - side // 8, 2)
    return np.roll(image[:, :: int(rng.choice((-1, 1)))], tuple(int(step) for step in shift), axis=(0, 1))


def _box(rng: np.random.Generator, least: int, most: int) -> Mask:
    mask = np.zeros((NETWORK_SIDE, NETWORK_SIDE), np.float32)
    height, width = (int(side) for side in rng.integers(least, most, 2))
    top, left = (int(rng.integers(0, NETWORK_SIDE - side)) for side in (height, width))
    mask[top : top + height, left : left + width] = 1
    return mask


def _blob(rng: np.random.Generator, least: float, most: float) -> Mask:
    """A region of random shape that covers such a share of the image."""
    side = NETWORK_SIDE
    noise = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), float(rng.uniform(8, 20)))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    centre = rng.uniform(30, side - 30, 2)
    share = float(np.exp(rng.uniform(np.log(least), np.log(most))))
    radius = side * np.sqrt(share)
    hill = noise / noise.std() - np.hypot(y - centre[0], x - centre[1]) / np.float32(0.5 * radius)
    return np.asarray(hill > np.quantile(hill, 1 - share), np.float32)


def _soft(mask: Mask, pixels: float) -> Mask:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), pixels), np.float32)
