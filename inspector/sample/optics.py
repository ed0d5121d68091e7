"""The camera: where the tray lies under it, the lens, the sensor's noise. Linear light in, uint8 RGB out."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from inspector.inspection import Image
from inspector.sample.plane import HEIGHT, WIDTH, Mask, Plane

_WHITE = 1.5  # square root of the brightest light that is told apart
_SPARE = 160  # rows and columns of noise to choose from


@dataclass(frozen=True, slots=True)
class View:
    """How the tray lies under the camera."""

    dx: float  # pixels
    dy: float
    angle: float  # radians
    scale: float

    def matrix(self) -> Plane:
        """(2, 3) canvas to image."""
        cos, sin = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        x, y = WIDTH / 2, HEIGHT / 2
        rows = [[cos, -sin, x + self.dx - cos * x + sin * y], [sin, cos, y + self.dy - sin * x - cos * y]]
        return np.array(rows, np.float32)


def random_view(rng: np.random.Generator) -> View:
    """A stop of the conveyor: some pixels off, up to 1.5 degrees, 1 % in scale."""
    dx, dy = rng.uniform(-6, 6), rng.uniform(-5, 5)
    return View(float(dx), float(dy), math.radians(rng.uniform(-1.5, 1.5)), float(rng.uniform(0.99, 1.01)))


def expose(colour: Plane, view: View, rng: np.random.Generator) -> Image:
    """(3, 512, 640) linear light on the canvas, which is used up, to the (512, 640, 3) image that the camera sends.

    The square root is the camera's gamma; it also makes shot noise the same at every grey value, so noise comes last.
    """
    colour *= _vignette()
    np.maximum(colour, 0, out=colour)
    np.sqrt(colour, out=colour)
    colour *= 255 / _WHITE
    np.minimum(colour, 255, out=colour)
    canvas = cv2.LUT(cv2.merge([plane.astype(np.uint8) for plane in colour]), _shoulder())
    seen = cv2.warpAffine(canvas, view.matrix(), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT_101)
    soft = cv2.GaussianBlur(seen, (3, 3), 0.45 + float(rng.uniform(0, 0.2)))
    return np.asarray(cv2.add(soft, _noise(rng), dtype=cv2.CV_8U), np.uint8)


def seen_mask(mask: Mask, view: View) -> Mask:
    """A canvas mask as it lies in the image."""
    return np.asarray(seen_map(mask.astype(np.uint8), view) > 0)


def seen_map(numbers: Image, view: View) -> Image:
    """(512, 640) component numbers as they lie in the image."""
    moved = cv2.warpAffine(numbers, view.matrix(), (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8)


@cache
def _vignette() -> Plane:
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    return np.asarray(1 - 0.17 * (x * x + y * y) / 1.2, np.float32)


@cache
def _shoulder() -> Image:
    """(256,) the response above the straight part: highlights bend towards white instead of clipping."""
    light = np.square(np.linspace(0, _WHITE, 256))
    return np.asarray(np.clip(np.sqrt(light * (1 + light * 0.28) / (1 + light)) * 268, 0, 255), np.uint8)


def _noise(rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """(512, 640, 3) a random cut of noise made once; fresh noise for every image would take longer than the image."""
    bank = _noise_bank()
    y, x = int(rng.integers(_SPARE)), int(rng.integers(_SPARE))
    cut: npt.NDArray[np.int8] = bank[y : y + HEIGHT, x : x + WIDTH]
    return cut


@cache
def _noise_bank() -> npt.NDArray[np.int8]:
    shape = HEIGHT + _SPARE, WIDTH + _SPARE, 3
    noise: Plane = 1.7 * np.random.default_rng(4).standard_normal(shape, dtype=np.float32)
    return np.rint(noise).astype(np.int8)
