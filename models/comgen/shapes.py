"""Pieces of an image that could be a component: what a surface encloses, and the surface's own patches. Pure."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from models.comgen.surfaces import Labels

Mask: TypeAlias = npt.NDArray[np.bool_]  # (256, 256)

LEAST, MOST = 0.0015, 0.25  # share of the image that a piece covers
GROUND = 0.01  # share of the image from which on a patch may be what others lie on
THINNEST = 1.6  # pixels, the deviation across a piece: an edge's shading is thinner
SAME = 0.6  # intersection over union, from which on two pieces are one
_CLOSE, _OPEN = np.ones((3, 3), np.uint8), np.ones((4, 4), np.uint8)
_COARSE = 2  # pixels: pieces are compared on every second one


def shapes(labels: tuple[Labels, ...]) -> list[Mask]:
    """Pieces of all sizes, enclosed ones first; no two cover the same.

    Args:
        labels: the surface of each pixel, at several levels of detail.
    """
    kept: list[Mask] = []
    candidates = [list(_pieces(level)) for level in labels]
    for enclosed in (True, False):
        for piece in (piece for level in candidates for piece, is_enclosed in level if is_enclosed is enclosed):
            if not any(overlap(piece[::_COARSE, ::_COARSE], other[::_COARSE, ::_COARSE]) > SAME for other in kept):
                kept.append(piece)
    return kept


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def spread(mask: Mask) -> npt.NDArray[np.float64]:
    """Deviations of a piece's pixels across and along it, (2,) pixels."""
    places = np.stack(np.nonzero(mask)).astype(np.float64)
    covariance = np.cov(places) + 0.3 * np.eye(2) if places.shape[1] > 1 else 0.3 * np.eye(2)
    return np.asarray(np.sqrt(np.linalg.eigvalsh(covariance)))


def outline(mask: Mask) -> Sequence[npt.NDArray[np.int32]]:
    """The border of each of its regions, as OpenCV draws it."""
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [np.asarray(line, np.int32) for line in found]


def filled(patch: Mask) -> Mask:
    """The patch with what it encloses."""
    drawn = cv2.drawContours(np.zeros(patch.shape, np.uint8), outline(patch), -1, 1, cv2.FILLED)
    return np.asarray(drawn > 0)


def roundness(mask: Mask) -> float:
    """Isoperimetric quotient of the largest piece's outline: 1 for a disc, .79 for a square, little if it is ragged."""
    largest = max(outline(mask), key=cv2.contourArea)
    return float(4 * np.pi * cv2.contourArea(largest) / max(cv2.arcLength(largest, True), 1.0) ** 2)


def hull(mask: Mask) -> Mask:
    """Its convex hull."""
    corners = cv2.convexHull(np.concatenate(outline(mask)))
    return np.asarray(cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), corners, 1) > 0)


def solidity(mask: Mask) -> float:
    """Share of its convex hull that a mask covers."""
    return float(np.count_nonzero(mask) / np.count_nonzero(hull(mask)))


def _pieces(labels: Labels) -> Iterator[tuple[Mask, bool]]:
    """Each piece, and whether it is enclosed by a surface."""
    for surface in np.unique(labels):
        closed = cv2.morphologyEx((labels == surface).astype(np.uint8), cv2.MORPH_CLOSE, _CLOSE)
        for patch in _connected(closed, LEAST, 1.0):
            whole = filled(patch)
            if patch.mean() >= GROUND:
                yield from ((hole, True) for hole in _opened(whole & ~patch))
            if whole.sum() < (1 + MOST) * patch.sum() and not _touches_border(patch):
                yield from ((piece, False) for piece in _opened(patch))


def _opened(mask: Mask) -> Iterator[Mask]:
    for piece in _connected(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _OPEN), LEAST, MOST):
        if spread(piece)[0] >= THINNEST:
            yield piece


def _connected(mask: npt.NDArray[np.generic], least: float, most: float) -> Iterator[Mask]:
    count, index, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for number in range(1, count):
        if least <= statistics[number, cv2.CC_STAT_AREA] / mask.size <= most:
            yield np.asarray(index == number)


def _touches_border(mask: Mask) -> bool:
    return int(sum(np.count_nonzero(side) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))) >= 8
