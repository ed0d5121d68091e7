"""Views of pictures of anything: photographs from a folder and rendered textures, to distil a teacher from.

Knows no network and no product.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.data import DataError, image_files, read_image, to_uint8
from models.grid import NETWORK_SIDE

View: TypeAlias = npt.NDArray[np.uint8]  # (VIEW_SIDE, VIEW_SIDE, 3) RGB
VIEW_SIDE = 512
LEAST_SIDE = 64  # pixels of a photograph that can still be enlarged to a view
GREY_SHARE = 0.2
TEXTURE_SHARE = 0.25  # of the views


def photographs(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders under it, sorted.

    Raises:
        DataError: there are none.
    """
    folders = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
    found = [path for inner in folders for path in image_files(inner)]
    if not found:
        raise DataError(f"{folder} holds no pictures: give a folder of photographs, the more and the larger the better")
    return found


def view(photos: Sequence[Path], rng: np.random.Generator) -> View:
    """One random view: a piece of a photograph, or a texture; some in grey, mirrored at will."""
    if rng.random() < TEXTURE_SHARE:
        pixels = texture(rng)
    else:
        pixels = _piece(_in_colour(photos[int(rng.integers(len(photos)))]), rng)
    if rng.random() < GREY_SHARE:
        pixels = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, np.newaxis], 3, axis=2).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, :: int(rng.choice((-1, 1)))])


def texture(rng: np.random.Generator) -> View:
    """A rendered surface: coloured noise of a random spectrum and direction, with shapes, lines and figures on it."""
    surface = _grain(rng)
    low, high = rng.uniform(0, 255, (2, 3))
    canvas = (low + (high - low) * surface[:, :, np.newaxis]).astype(np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        _mark(canvas, rng)
    blurred = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 1.5))).astype(np.float32)
    noisy = blurred + rng.normal(0, float(rng.uniform(0, 6)), canvas.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def shrink(pixels: View) -> npt.NDArray[np.uint8]:
    """A view as small as the networks see it, (256, 256, 3)."""
    return np.asarray(cv2.resize(pixels, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def as_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W) in 0..1."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _grain(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(512, 512) in 0..1: white noise through a power-law filter that may be stretched along one direction."""
    frequency_y = np.fft.fftfreq(VIEW_SIDE)[:, None]
    frequency_x = np.fft.rfftfreq(VIEW_SIDE)[None, :]
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 3))
    along = frequency_x * np.cos(angle) + frequency_y * np.sin(angle)
    across = frequency_y * np.cos(angle) - frequency_x * np.sin(angle)
    radius = np.hypot(along * stretch, across) + 1 / VIEW_SIDE
    spectrum = np.fft.rfft2(rng.standard_normal((VIEW_SIDE, VIEW_SIDE))) * radius ** -rng.uniform(0.2, 1.8)
    noise = np.fft.irfft2(spectrum, s=(VIEW_SIDE, VIEW_SIDE))
    low, high = np.quantile(noise, (0.01, 0.99))
    return np.asarray(np.clip((noise - low) / (high - low), 0, 1), np.float32)


def _mark(canvas: View, rng: np.random.Generator) -> None:
    """Draw one shape, line or figure at random."""
    colour = tuple(float(value) for value in rng.uniform(0, 255, 3))
    x, y, u, v = (int(value) for value in rng.integers(0, VIEW_SIDE, 4))
    width = int(rng.integers(1, 9))
    kind = rng.integers(5)
    if kind == 0:
        cv2.line(canvas, (x, y), (u, v), colour, width, cv2.LINE_AA)
    elif kind == 1:
        radii = (int(rng.integers(4, 90)), int(rng.integers(4, 90)))
        filled = -1 if rng.random() < 0.5 else width
        cv2.ellipse(canvas, (x, y), radii, float(rng.uniform(0, 180)), 0, 360, colour, filled, cv2.LINE_AA)
    elif kind == 2:
        cv2.rectangle(canvas, (x, y), (u, v), colour, -1 if rng.random() < 0.3 else width)
    elif kind == 3:
        points = (np.array((x, y)) + rng.normal(0, 60, (int(rng.integers(3, 7)), 2))).astype(np.int32)
        cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA)
    else:
        text = "".join(chr(int(code)) for code in rng.integers(48, 91, int(rng.integers(1, 8))))
        cv2.putText(canvas, text, (x, y), int(rng.integers(0, 8)), float(rng.uniform(0.5, 4)), colour, width)


def _in_colour(path: Path) -> View:
    image = read_image(path)
    pixels = to_uint8(image, 8 * image.itemsize)
    if min(pixels.shape[:2]) < LEAST_SIDE:
        raise DataError(f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels: leave out what is smaller than 64")
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _piece(pixels: View, rng: np.random.Generator) -> View:
    """A random square of it, from half a view's side to all that there is, as a view."""
    height, width = pixels.shape[:2]
    most = min(height, width)
    side = int(rng.uniform(min(most, VIEW_SIDE // 2), most + 1))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    piece = pixels[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > VIEW_SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(piece, (VIEW_SIDE, VIEW_SIDE), interpolation=method), np.uint8)
