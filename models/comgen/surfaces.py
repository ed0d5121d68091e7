"""Which surface each pixel shows: superpixels that follow the edges, named by what they look like in all pictures.

Knows no component: a component may show several surfaces, and a surface may be seen on several components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from models.grid import NETWORK_SIDE
from models.teacher import Lite0Teacher

Labels: TypeAlias = npt.NDArray[np.uint8]  # (256, 256)
Planes: TypeAlias = npt.NDArray[np.float32]  # (256, 256, D)
Matrix: TypeAlias = npt.NDArray[np.float64]  # (n, D)

COUNTS = (10, 14)  # surfaces: coarse ones hold large parts together, fine ones tell small parts apart
KEPT = (8, 12)  # principal components that are looked at, of the teacher's finest scales
TEXTURE_SIGMA = 4.0  # pixels over which lightness varies
LIGHTNESS_STEP, TEXTURE_STEP = 15.0, 8.0  # of CIELAB, that count as much as a deviation of the teacher's features
PLACE_WEIGHT = 0.3  # of where a superpixel lies, the image being from -1 to 1
SCALE, BLUR, FEWEST_PIXELS = 60.0, 0.5, 40  # of Felzenszwalb & Huttenlocher's segmentation of 256 x 256 pixels


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """An image cut into superpixels."""

    index: npt.NDArray[np.int64]  # (256, 256), the superpixel of each pixel
    raw: Matrix  # (n, 6 + taps), each superpixel's mean colour, texture, place, and features
    area: npt.NDArray[np.float64]  # (n,) pixels


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One image, as `Surfaces` sees it."""

    labels: tuple[Labels, ...]  # one for each of COUNTS
    planes: Planes  # what each pixel's superpixel looks like, without its place


def cut(image: Tensor, teacher: Lite0Teacher) -> Segments:
    """Cut a network image (1, 3, 256, 256) in 0..1 into superpixels."""
    pixels = (255 * image[0].permute(1, 2, 0)).byte().numpy()
    calm = cv2.bilateralFilter(np.ascontiguousarray(pixels), 7, 25, 5)
    lab = rgb2lab(calm).astype(np.float32)
    index = felzenszwalb(lab / 100, scale=SCALE, sigma=BLUR, min_size=FEWEST_PIXELS, channel_axis=-1)
    texture = _deviation(rgb2lab(pixels)[:, :, 0].astype(np.float32))
    line = np.linspace(-1, 1, NETWORK_SIDE, dtype=np.float32)
    rows, columns = np.meshgrid(line, line, indexing="ij")
    planes = [*lab.transpose(2, 0, 1), texture, rows, columns, *_taps(image, teacher)]
    area = np.bincount(index.ravel()).astype(np.float64)
    sums = [np.bincount(index.ravel(), weights=plane.ravel()) for plane in planes]
    return Segments(index, np.stack(sums, axis=1) / area[:, np.newaxis], area)


class Surfaces:
    """k-means over superpixels of good images: CIELAB, texture, shallow features of the Lite0 teacher, place."""

    def __init__(self, images: Sequence[Segments], seed: int) -> None:
        """Learn the surfaces of images that are cut."""
        raw, area = np.concatenate([image.raw for image in images]), np.concatenate([image.area for image in images])
        self._bases = [_Basis(raw[:, columns], area, kept) for columns, kept in _tap_columns()]
        places = np.concatenate([self._describe(raw), PLACE_WEIGHT * raw[:, 4:6]], axis=1)
        self._clusters = [
            KMeans(min(count, len(places)), n_init=4, random_state=seed).fit(places, sample_weight=np.sqrt(area))
            for count in COUNTS
        ]

    def look(self, image: Segments) -> Look:
        """Name the surface of each pixel of an image that is cut."""
        described = self._describe(image.raw)
        places = np.concatenate([described, PLACE_WEIGHT * image.raw[:, 4:6]], axis=1)
        labels = [
            np.asarray(cv2.medianBlur(clusters.predict(places).astype(np.uint8)[image.index], 5), np.uint8)
            for clusters in self._clusters
        ]
        return Look(tuple(labels), described.astype(np.float32)[image.index])

    def _describe(self, raw: Matrix) -> Matrix:
        """Colour, texture and features of superpixels, on one scale."""
        taps = [basis(raw[:, columns]) for basis, (columns, _) in zip(self._bases, _tap_columns(), strict=True)]
        return np.concatenate([raw[:, :3] / LIGHTNESS_STEP, raw[:, 3:4] / TEXTURE_STEP, *taps], axis=1)


class _Basis:
    """Principal components of one tap, scaled such that they count as one number."""

    def __init__(self, values: Matrix, weight: npt.NDArray[np.float64], kept: int) -> None:
        self._mean = np.average(values, axis=0, weights=weight)
        self._scale = np.sqrt(np.average(np.square(values - self._mean), axis=0, weights=weight)) + 1e-6
        centred = (values - self._mean) / self._scale
        vectors = np.linalg.eigh(np.cov(centred.T, aweights=weight))[1][:, ::-1][:, :kept]
        power = np.average(np.square(centred @ vectors).sum(axis=1), weights=weight)
        self._vectors = vectors / np.sqrt(power + 1e-12)

    def __call__(self, values: Matrix) -> Matrix:
        projected: Matrix = ((values - self._mean) / self._scale) @ self._vectors
        return projected


@torch.inference_mode()
def _taps(image: Tensor, teacher: Lite0Teacher) -> npt.NDArray[np.float32]:
    """(channels of all taps, 256, 256)."""
    wide = [
        F.interpolate(features, size=(NETWORK_SIDE, NETWORK_SIDE), mode="bilinear")[0]
        for features in teacher.scales(image)[: len(KEPT)]
    ]
    return np.asarray(torch.cat(wide).numpy(), np.float32)


def _tap_columns() -> list[tuple[slice, int]]:
    """Where each tap's channels lie among the raw numbers, and how many principal components are kept."""
    channels = Lite0Teacher.scale_channels[: len(KEPT)]
    ends = 6 + np.cumsum(channels)
    return [(slice(int(end) - wide, int(end)), kept) for end, wide, kept in zip(ends, channels, KEPT, strict=True)]


def _deviation(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How much a plane varies around each pixel."""
    mean = cv2.GaussianBlur(plane, (0, 0), TEXTURE_SIGMA)
    square = cv2.GaussianBlur(plane * plane, (0, 0), TEXTURE_SIGMA)
    return np.sqrt(np.maximum(square - mean * mean, 0)).astype(np.float32)
