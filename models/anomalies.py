"""Anomalies to learn from, made of good images with exact masks: CutPaste and DRAEM's. Knows no network.

They are the baselines that ComGEN's generated anomalies are compared with, and come in the same form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.corpus import shrink, texture
from models.fakes import GENERATED
from models.grid import NETWORK_SIDE

Pixels: TypeAlias = npt.NDArray[np.float32]  # (256, 256, 3) in 0..1
Mask: TypeAlias = npt.NDArray[np.float32]  # (256, 256) in 0..1, how much of the edit shows
Make: TypeAlias = Callable[[Pixels, np.random.Generator], tuple[Pixels, Mask]]

NO_OP_SHARE = 0.2  # of what is drawn is edited such that nothing is wrong
GREY = 2 / 255  # of difference between the channels, at most: such an image is edited in grey


@dataclass(frozen=True, slots=True, eq=False)
class Anomaly:
    """A good image, edited; with an empty mask it was edited such that nothing is wrong."""

    image: Tensor  # (1, 3, 256, 256) in 0..1
    mask: Tensor  # (256, 256) in 0..1, where it was edited and how much of the edit shows
    source: int  # which of the good images


class Anomalies(Protocol):
    """Some anomalies, perhaps made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Anomaly: ...


class Drawn:
    """So many anomalies, each made when it is asked for; the same seed and index give the same one."""

    def __init__(self, images: Sequence[Tensor], make: Make, *, seed: int, count: int) -> None:
        self._images = images
        self._make = make
        self._seed = seed
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Anomaly:
        """The anomaly of this index.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= index < self._count:
            raise IndexError(index)
        rng = np.random.default_rng((self._seed, index))
        source = int(rng.integers(len(self._images)))
        pixels = self._images[source][0].permute(1, 2, 0).numpy()
        edited, mask = self._make(pixels, rng)
        wrong = rng.random() >= NO_OP_SHARE
        if not wrong:
            edited = redone(pixels, rng)
        result = np.clip(pixels + mask[:, :, None] * (edited - pixels), 0, 1)
        if np.ptp(pixels, axis=2).max() < GREY:
            result = np.repeat(result.mean(axis=2, keepdims=True), 3, axis=2)
        image = torch.from_numpy(result.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
        return Anomaly(image, torch.from_numpy(mask) * wrong, source)


def cut_paste(source: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """A piece of the image pasted elsewhere, its colours jittered (Li et al. 2021, section 2.2): a patch or a scar.

    Patches cover 2 to 15 % of the image with sides at 0.3 to 3.3; scars are 2 to 16 by 10 to 25 pixels and turned by up
    to 45 degrees. Unlike there, edges are feathered at random, as they must not be what gives an anomaly away.
    """
    if rng.random() < 0.5:
        area, aspect = rng.uniform(0.02, 0.15) * NETWORK_SIDE**2, np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        size, angle = (np.sqrt(area / aspect), np.sqrt(area * aspect)), 0.0
    else:
        size, angle = (rng.uniform(10, 25), rng.uniform(2, 16)), rng.uniform(-45, 45)
    cut, paste = (_place(size, rng) for _ in range(2))
    mask: Mask = np.zeros((NETWORK_SIDE, NETWORK_SIDE), np.float32)
    corners = cv2.boxPoints(((paste[0], paste[1]), (size[1], size[0]), angle))
    cv2.fillPoly(mask, [corners.round().astype(np.int32)], (1.0,))
    turn = cv2.getRotationMatrix2D(cut, -angle, 1.0)
    turn[:, 2] += np.subtract(paste, cut)
    moved = cv2.warpAffine(source, turn, mask.shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _jittered(moved.astype(np.float32), rng), _feathered(mask, rng)


def perlin(source: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Another surface where Perlin noise is high, partly transparent (DRAEM, Zavrtanik et al. 2021, section 3.3).

    The noise has 2^0 to 2^5 periods along each side, and the transparency is drawn from 0 to 0.8 as in its published
    code. The surfaces are rendered, as the Describable Textures that DRAEM takes do not come with this product.
    """
    mask: Mask = np.zeros(source.shape[:2], np.float32)
    while not mask.any():  # few periods may have no hill that is high enough
        mask = _hills(rng)
    surface = shrink(texture(rng)).astype(np.float32) / 255
    opacity = np.float32(1 - rng.uniform(0, 0.8))
    return np.asarray(source + opacity * (surface - source), np.float32), _feathered(mask, rng)


def structural(source: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Damage of either kind."""
    return (cut_paste if rng.random() < 0.5 else perlin)(source, rng)


MAKES: dict[str, Make] = {"cutpaste": cut_paste, "perlin": perlin, "structural": structural}


_PASTED, _COVERED = frozenset({"cut and paste", "stranger"}), frozenset({"foreign surface", "stain"})
_ALL = _PASTED | _COVERED | {"missing", "mismatched", GENERATED}
KIN: dict[str, frozenset[str]] = {  # fakes that look like them: what has learned from them is not judged by these
    "cutpaste": _PASTED,
    "perlin": _COVERED,
    "structural": _PASTED | _COVERED,
    "comgen": _ALL,
    "comgen-any": _ALL,
}


def redone(source: Pixels, rng: np.random.Generator) -> Pixels:
    """The image as an editor might give it back without having edited it: a little softer, lighter or noisier."""
    blurred = cv2.GaussianBlur(source, (0, 0), float(rng.uniform(0.2, 0.8)))
    noisy = blurred + rng.normal(0, rng.uniform(0, 0.01), source.shape) + rng.uniform(-0.015, 0.015)
    return np.asarray(noisy, np.float32)


def perlin_noise(rows: int, columns: int, rng: np.random.Generator) -> Mask:
    """Gradient noise (Perlin 1985), (256, 256) in about -1..1, with so many lattice cells down and across."""
    angle = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    down, right = (np.arange(NETWORK_SIDE) * count / NETWORK_SIDE for count in (rows, columns))
    top, left = down.astype(int), right.astype(int)
    y, x = (down - top)[:, None], (right - left)[None, :]

    def corner(below: int, beside: int) -> npt.NDArray[np.float64]:
        gradient = angle[np.ix_(top + below, left + beside)]
        return np.asarray(np.sin(gradient) * (y - below) + np.cos(gradient) * (x - beside))

    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (y, x))
    above = corner(0, 0) + fade_x * (corner(0, 1) - corner(0, 0))
    below = corner(1, 0) + fade_x * (corner(1, 1) - corner(1, 0))
    return np.asarray(np.sqrt(2) * (above + fade_y * (below - above)), np.float32)


def _hills(rng: np.random.Generator) -> Mask:
    """1 where turned Perlin noise is over one half."""
    rows, columns = (int(2**power) for power in rng.integers(0, 6, 2))
    noise = perlin_noise(rows, columns, rng)
    turn = cv2.getRotationMatrix2D((NETWORK_SIDE / 2, NETWORK_SIDE / 2), float(rng.uniform(-90, 90)), 1.0)
    turned = cv2.warpAffine(noise, turn, noise.shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned > 0.5, np.float32)


def _place(size: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    """Where a piece (height, width) may have its middle, (x, y)."""
    y, x = (float(rng.uniform(side / 2, NETWORK_SIDE - side / 2)) for side in size)
    return x, y


def _jittered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and each colour changed by up to a tenth."""
    contrast, brightness, colour = rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1, 3)
    middle = pixels.mean()
    return np.asarray((middle + contrast * (pixels - middle)) * brightness * colour, np.float32)


def _feathered(mask: Mask, rng: np.random.Generator) -> Mask:
    """With an edge of random softness, from hard to about 4 pixels."""
    softness = float(rng.uniform(0, 2))
    return mask if softness < 0.3 else np.asarray(cv2.GaussianBlur(mask, (0, 0), softness), np.float32)
