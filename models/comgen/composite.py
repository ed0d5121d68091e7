"""Edits of a photograph at its own resolution, made of real pixels of good images. Knows no component's name.

Every edit says where it has changed the image; blending hides its seams, as a generated anomaly must look like a
photograph of a wrongly assembled product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

Photo: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Mask: TypeAlias = npt.NDArray[np.bool_]  # (H, W)
Field: TypeAlias = npt.NDArray[np.float32]

RIM = 0.016  # of the image's longer side: how far round a piece its shadow and the edge's blur reach
FEATHER = 0.004  # of the longer side
RING = 0.02  # of the longer side: the surroundings that a filling must match
SHIFTS = 60  # places of the image itself that are tried as a filling
PAINTED_SIDE = 48  # pixels, of a piece that is painted
STRANGE = 30.0  # of 255, by which a rim may differ from what it comes to lie on; of twice that nothing is taken along
ERODED = 3  # pixels that OpenCV's cloning takes off the mask's rim
POOR_MATCH = 0.3  # of a filling (`_mismatch`), beyond which nothing real fits
ODD = 0.97  # quantile of pixels: one in thirty of a filling is enough to tell
ONE_GROUND = 0.45  # deviation over the mean in the ring, beyond which there is more than one thing around
DARK = 0.05  # of the range, added to that mean: noise on black is no second thing


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """A photograph with a change in it."""

    photo: Photo
    masks: tuple[Mask, ...]  # what is wrong, defect by defect


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A part cut out of a photograph, with a rim of what surrounds it."""

    pixels: Field  # (h, w, 3) in 0..255
    alpha: Field  # (h, w) in 0..1, fading over the rim
    mask: Mask  # (h, w), the part itself
    centre: tuple[float, float]  # of the part in the photograph, row and column


def as_photo(image: Tensor) -> Photo:
    """(1, 3, S, S) in 0..1 -> (S, S, 3) RGB."""
    return np.ascontiguousarray((255 * image[0].permute(1, 2, 0)).byte().numpy())


def surroundings(photo: Photo, mask: Mask) -> float:
    """How uneven it is around a part: the deviation relative to the brightness."""
    return _unevenness(photo, _ring(photo, dilate(mask, reach(photo, RIM))))


def cut_out(photo: Photo, mask: Mask) -> Piece:
    """Cut out what a mask shows."""
    rim = reach(photo, RIM)
    rows, columns = (
        slice(max(int(line.min()) - 2 * rim, 0), int(line.max()) + 2 * rim + 1) for line in np.nonzero(mask)
    )
    inside = mask[rows, columns]
    grown = dilate(inside, rim)
    distance = cv2.distanceTransform(grown.astype(np.uint8), cv2.DIST_L2, 5)
    centre = np.argwhere(mask).mean(axis=0)
    return Piece(
        pixels=photo[rows, columns].astype(np.float32),
        alpha=np.clip(distance / max(rim, 1), 0, 1).astype(np.float32),
        mask=inside,
        centre=(float(centre[0]), float(centre[1])),
    )


def turned(piece: Piece, degrees: float) -> Piece:
    """The piece rotated about its middle."""
    height, width = piece.mask.shape
    side = int(np.ceil(np.hypot(height, width)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2

    def rotate(values: Field, fill: int) -> Field:
        return np.asarray(cv2.warpAffine(values, turn, (side, side), flags=fill, borderMode=cv2.BORDER_CONSTANT))

    return Piece(
        pixels=np.asarray(cv2.warpAffine(piece.pixels, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)),
        alpha=rotate(piece.alpha, cv2.INTER_LINEAR),
        mask=rotate(piece.mask.astype(np.float32), cv2.INTER_LINEAR) > 0.5,
        centre=piece.centre,
    )


def paste(photo: Photo, piece: Piece, centre: tuple[float, float]) -> tuple[Photo, Mask]:
    """Lay a piece on a photograph, its centre of mass there; its rim takes on the colour of what it comes to lie on.

    Returns:
        the photograph, and where the part is now; what falls off the image is lost.
    """
    own = np.argwhere(piece.mask).mean(axis=0)
    top, left = round(centre[0] - own[0]), round(centre[1] - own[1])
    height, width = photo.shape[:2]
    rows = slice(max(top, 0), min(top + piece.mask.shape[0], height))
    columns = slice(max(left, 0), min(left + piece.mask.shape[1], width))
    inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    pixels, alpha, mask = piece.pixels[inner], piece.alpha[inner], piece.mask[inner]
    under = photo[rows, columns].astype(np.float32)
    rim = (alpha > 0) & (alpha < 0.5) & ~mask
    if rim.any():  # light differs from place to place: shift the piece by as much as its surroundings differ
        shift = np.clip((under[rim].mean(axis=0) - pixels[rim].mean(axis=0)), -25, 25)
        pixels = pixels + shift
    own_ground = np.clip(2 - np.abs(under - pixels).max(axis=2) / STRANGE, 0, 1)  # less, where its rim shows another
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), reach(photo, FEATHER))
    share = np.maximum(alpha * own_ground, np.where(mask, 1, soft))[:, :, np.newaxis]
    result = photo.copy()
    result[rows, columns] = np.clip(under + share * (pixels - under) + 0.5, 0, 255).astype(np.uint8)
    placed = np.zeros(photo.shape[:2], bool)
    placed[rows, columns] = mask
    return result, placed


def fill(
    photo: Photo, mask: Mask, others: Sequence[tuple[Photo, Mask]], occupied: Mask, rng: np.random.Generator
) -> Photo | None:
    """Take what is there away: show what would lie beneath.

    The filling is real: the same place of another good image where nothing lies, or another place of the image itself,
    whichever fits the surroundings best; where nothing fits and the surroundings are all alike it is painted from them.

    Args:
        photo: (H, W, 3).
        mask: what to take away.
        others: good images of the same size, and where something lies in each.
        occupied: where something lies in the photograph itself.
        rng: draws the places that are tried.

    Returns:
        None: what lies beneath cannot be told.
    """
    hole = dilate(mask, reach(photo, RIM))
    around = _ring(photo, hole)
    ring = around & ~occupied if (around & ~occupied).any() else around
    fillings = [other for other, busy in others if not (busy & hole).any()]
    fillings += _shifted(photo, hole, occupied | mask, rng)
    candidates = [(filling, _mismatch(photo, filling, ring, hole)) for filling in fillings]
    best = min(candidates, key=lambda item: item[1], default=None)
    if best and best[1] <= POOR_MATCH:
        return blend(photo, best[0], hole)
    return overlay(photo, _painted(photo, hole), hole) if _unevenness(photo, ring) <= ONE_GROUND else None


def blend(photo: Photo, other: Photo, mask: Mask) -> Photo:
    """Another photograph's content within the mask, its tone carried over from the border (Perez et al. 2003)."""
    inside = dilate(mask, ERODED)
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    if not inside.any():
        return photo
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    centre = (int(columns[0] + columns[-1] + 1) // 2, int(rows[0] + rows[-1] + 1) // 2)
    cut = (slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2))
    cloned = cv2.seamlessClone(
        np.ascontiguousarray(other[cut]), photo, 255 * inside[cut].astype(np.uint8), centre, cv2.NORMAL_CLONE
    )
    return overlay(photo, np.asarray(cloned, np.uint8), mask)


def overlay(photo: Photo, other: Photo, mask: Mask) -> Photo:
    """Another photograph's content within the mask, as it is; the border is soft."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), reach(photo, FEATHER))[:, :, np.newaxis]
    return np.asarray(photo + soft * (other.astype(np.float32) - photo) + 0.5, np.uint8)


def slide(photo: Photo, mask: Mask, step: tuple[int, int], *, grow: bool) -> tuple[Photo, Mask]:
    """Let a part reach further into its surroundings, or them into it, by real pixels from across its border: a level.

    Args:
        photo: (H, W, 3).
        mask: the part.
        step: pixels down and to the right by which its border moves.
        grow: the part grows in that direction; else it shrinks against it.
    """
    move = np.array([[1, 0, step[1]], [0, 1, step[0]]], np.float32)
    size = (photo.shape[1], photo.shape[0])
    moved = np.asarray(cv2.warpAffine(photo, move, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    reached = cv2.warpAffine(mask.astype(np.uint8), move, size) > 0
    band = reached & ~mask if grow else mask & ~reached
    return overlay(photo, moved, band), band


def upscaled(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask (256, 256) at the photograph's (height, width), its steps rounded."""
    smooth = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    return np.asarray(cv2.resize(smooth, (size[1], size[0]), interpolation=cv2.INTER_CUBIC) > 0.5)


def shrunk(photo: Photo, longest: int) -> Photo:
    """A copy whose longer side is no more than so many pixels."""
    scale = min(longest / max(photo.shape[0], photo.shape[1]), 1.0)
    size = max(1, round(scale * photo.shape[1])), max(1, round(scale * photo.shape[0]))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def dilate(mask: Mask, pixels: int) -> Mask:
    """The mask and what lies within so many pixels of it."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def reach(photo: Photo, share: float) -> int:
    """A share of the photograph's longer side in pixels, at least one."""
    longest: int = max(photo.shape)
    return max(1, round(share * longest))


def _painted(photo: Photo, hole: Mask) -> Photo:
    """The surroundings continued into a hole, like a membrane between its borders, coarsely."""
    margin = reach(photo, RING)
    rows, columns = (slice(max(line.min() - margin, 0), line.max() + margin + 1) for line in np.nonzero(hole))
    cut, inside = photo[rows, columns], hole[rows, columns]
    scale = min(1.0, PAINTED_SIDE / max(inside.shape[0], inside.shape[1]))
    size = max(round(scale * inside.shape[1]), 4), max(round(scale * inside.shape[0]), 4)
    small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    covered = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    if covered.all():
        return photo
    continued = small.astype(np.float32)
    continued[covered] = continued[~covered].mean(axis=0)
    for _ in range(PAINTED_SIDE**2 // 2):  # as many steps as the middle of the largest hole takes to settle
        continued[covered] = cv2.blur(continued, (3, 3), borderType=cv2.BORDER_REPLICATE)[covered]
    result = photo.copy()
    result[rows, columns] = cv2.resize(continued.astype(np.uint8), cut.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return result


def _mismatch(photo: Photo, other: Photo, ring: Mask, hole: Mask) -> float:
    """How badly a filling fits, relative to the brightness around the hole.

    The mean difference around it, and by how much more than the surroundings the oddest pixels of the filling differ
    from their mean: where an edge or half a bolt is, there is no floor.
    """
    around, filled_around = photo[ring].astype(np.float32) / 255, other[ring].astype(np.float32) / 255
    filling = other[hole].astype(np.float32) / 255
    strange, usual = (
        float(np.quantile(np.abs(pixels - ground.mean(axis=0)).max(axis=1), ODD))
        for pixels, ground in ((filling, filled_around), (around, around))
    )
    difference = np.abs(around - filled_around).mean() + max(strange - usual, 0.0)
    return float(difference / (around.mean() + DARK))


def _ring(photo: Photo, hole: Mask) -> Mask:
    """What is around a hole, which a part leaves with its shadow's rim."""
    return dilate(hole, reach(photo, RING)) & ~hole


def _unevenness(photo: Photo, ring: Mask) -> float:
    """Deviation of what is around a part from its mean colour, relative to its brightness."""
    around = photo[ring].astype(np.float32) / 255
    return float(around.std(axis=0).mean() / (around.mean() + DARK)) if ring.any() else 0.0


def _shifted(photo: Photo, hole: Mask, occupied: Mask, rng: np.random.Generator) -> list[Photo]:
    """The photograph itself, moved such that a free place of it comes to lie in the hole."""
    height, width = hole.shape
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    reach_down, reach_across = 2 * len(rows) + 4, 2 * len(columns) + 4
    found = []
    for _ in range(SHIFTS):
        down, across = (
            int(rng.integers(-reach_down, reach_down + 1)),
            int(rng.integers(-reach_across, reach_across + 1)),
        )
        seen = slice(rows[0] - down, rows[-1] + 1 - down), slice(columns[0] - across, columns[-1] + 1 - across)
        if seen[0].start < 0 or seen[1].start < 0 or seen[0].stop > height or seen[1].stop > width:
            continue
        if occupied[seen][hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]].any():
            continue
        move = np.array([[1, 0, across], [0, 1, down]], np.float32)
        found.append(np.asarray(cv2.warpAffine(photo, move, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8))
    return found
