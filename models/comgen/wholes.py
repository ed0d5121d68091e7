"""Which pieces of an image hang together: a label with its prints, a vial with its cap. Pure; knows no product."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from models.comgen.components import Instance, union
from models.comgen.shapes import Mask, filled, solidity

TOUCHING = 0.15  # share of the smaller one's rim that lies on the other: they are probably one thing
ENCLOSED = 0.8  # the same: a print on its label
MOST = 0.15  # share of the image that a thing covers; more is the product itself
LEAST_SOLID = 0.8  # of a thing: what else is taken for a part of it sticks out
_RIM, _CLOSE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)), np.ones((5, 5), np.uint8)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the parts of one image belong together."""

    things: list[Instance]  # what they make up, each with its `members`; a part that stands alone is itself one
    touching: list[Instance]  # the parts that border on another one, so that more of one is less of the other


def arrange(parts: Sequence[Instance]) -> Arrangement:
    """Put the parts of one image together.

    Parts that touch are one thing, unless that becomes too large or has no compact shape: then only what lies on
    another belongs to it. A part that is too large for a thing by itself is what others lie on, and no part of them.
    """
    contact = _contacts([part.mask for part in parts])
    small = [index for index, part in enumerate(parts) if part.mask.mean() <= MOST]
    found, undecided = [part for part in parts if part.mask.mean() > MOST], [small] if small else []
    for least in (TOUCHING, ENCLOSED):
        groups = [group for members in undecided for group in _connected(members, contact >= least)]
        joined = [_joined([parts[index] for index in group]) for group in groups]
        found += [one for one in joined if _is_thing(one)]
        undecided = [group for group, one in zip(groups, joined, strict=True) if not _is_thing(one)]
    return Arrangement(
        things=found + [parts[index] for group in undecided for index in group],
        touching=[parts[index] for index in np.flatnonzero((contact >= TOUCHING).any(axis=1)).tolist()],
    )


def _contacts(masks: Sequence[Mask]) -> npt.NDArray[np.float64]:
    """How much of the rim of the smaller of two pieces lies on the larger one, or of itself within it, (n, n)."""
    contact = np.zeros((len(masks), len(masks)))
    sizes, whole = [np.count_nonzero(mask) for mask in masks], [filled(mask) for mask in masks]
    rims = [(cv2.dilate(mask.astype(np.uint8), _RIM) > 0) & ~mask for mask in masks]
    for pair in combinations(range(len(masks)), 2):
        small, large = sorted(pair, key=lambda index: sizes[index])
        on_it = masks[large][rims[small]].mean() if rims[small].any() else 0.0
        contact[small, large] = contact[large, small] = max(whole[large][masks[small]].mean(), on_it)
    return contact


def _connected(members: Sequence[int], contact: npt.NDArray[np.bool_]) -> list[list[int]]:
    count, label = connected_components(contact[np.ix_(members, members)], directed=False)
    return [[member for member, own in zip(members, label, strict=True) if own == number] for number in range(count)]


def _joined(parts: Sequence[Instance]) -> Instance:
    """One instance of several, named by the largest."""
    if len(parts) == 1:
        return parts[0]
    members = sorted(parts, key=lambda part: -np.count_nonzero(part.mask))
    mask = filled(cv2.morphologyEx(union(members).astype(np.uint8), cv2.MORPH_CLOSE, _CLOSE) > 0)
    return Instance(members[0].component, members[0].mode, mask, tuple(members))


def _is_thing(whole: Instance) -> bool:
    return not whole.members or (whole.mask.mean() <= MOST and solidity(whole.mask) >= LEAST_SOLID)
