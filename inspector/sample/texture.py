"""Fixed noise that gives surfaces their grain; made once, cut at a random place for each part."""

from functools import cache

import cv2
import numpy as np

from inspector.sample.plane import HEIGHT, WIDTH, Plane, blur

_SIDE = 1024


@cache
def moulded() -> Plane:
    """(1024, 1024) zero mean, unit deviation: the fine pebbled skin of moulded plastic."""
    noise = _white(1)
    return _standard(0.75 * _standard(blur(noise, 0.8)) + 0.4 * _standard(blur(noise, 2.2)))


@cache
def cloudy() -> Plane:
    """(1024, 1024) zero mean, unit deviation: slow unevenness of a surface, tens of pixels."""
    return _standard(blur(_white(2), 28))


@cache
def brushed() -> Plane:
    """(1024, 1024) zero mean, unit deviation: fine lines along the rows."""
    lines = np.asarray(cv2.GaussianBlur(_white(3), (0, 0), sigmaX=24, sigmaY=0.6), np.float32)
    return _standard(lines)


@cache
def woven() -> Plane:
    """(512, 640) in -1..1: the fabric of the conveyor belt."""
    x = np.arange(WIDTH, dtype=np.float32)[None, :]
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    weave = np.sin(x * 1.05) * np.sin(y * 1.05) + 0.5 * np.sin((x + y) * 0.52)
    return np.asarray(weave / 1.5, np.float32)


def cut(texture: Plane, rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> Plane:
    """A random piece of a texture; a view, not to be written to."""
    y = int(rng.integers(0, texture.shape[0] - height + 1))
    x = int(rng.integers(0, texture.shape[1] - width + 1))
    return texture[y : y + height, x : x + width]


def _white(seed: int) -> Plane:
    return np.random.default_rng(seed).standard_normal((_SIDE, _SIDE), dtype=np.float32)


def _standard(noise: Plane) -> Plane:
    even: Plane = (noise - noise.mean()) / noise.std()
    return even
