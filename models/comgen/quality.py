"""How good components and edits are, in figures. Chooses nothing and draws nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from models.comgen.components import Instance, union
from models.comgen.generate import Anomaly
from models.comgen.population import Population
from models.comgen.prompts import Modification, pieces
from models.comgen.shapes import Mask, overlap
from models.comgen.truth import Truth, true_change
from models.grid import NETWORK_SIDE

STILL_THERE = 0.5  # intersection over union with where a part was, from which on it has not changed
FOUND = 0.4  # the same with where it was put, from which on it is there now
SELDOM = -7.0  # logarithm of the density over what is usual: below, a part is never seen


@dataclass(frozen=True, slots=True)
class TrueMasks:
    """How far masks agree with what changing the true parts would cover (`true_change`)."""

    images: int  # in which true parts were changed
    iou: float  # mean intersection over union of an image's masks, taken together, with the truth
    within: float  # mean share of the masks that lies within the truth
    by_change: dict[str, float]  # `iou` for each kind of change


@dataclass(frozen=True, slots=True)
class Rarity:
    """Where moved and doubled parts come to lie."""

    seldom: float  # share at places where good images show the part, though seldom: the tail of the places' density
    distance: float  # median to the nearest place of a good image, in sides of the image


@dataclass(frozen=True, slots=True)
class EditQuality:
    """What generating has done, over all images."""

    images: int
    intended: float  # share of the images in which the components, found again, show the change
    inside: float  # mean change of a pixel within the masks, of 255
    outside: float  # and without
    by_change: dict[str, float]  # `intended` for each kind of change
    true_masks: TrueMasks | None = None  # where the truth is known


def component_iou(found: Sequence[Sequence[Instance]], truth: Sequence[Truth]) -> dict[int, float]:
    """Intersection over union of each true component with the one found component, or thing, that is assigned to it.

    Args:
        found: the instances of each image, things that several make up among them or not.
        truth: component maps of the same images, of any size.

    Returns:
        by the true component's number, over all images together; 0 for one that none was left for.
    """
    size = (NETWORK_SIDE, NETWORK_SIDE)
    true = np.stack([cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST) for numbers in truth])
    numbers = sorted(set(np.unique(true).tolist()) - {0})
    kinds = {(item.component, bool(item.members)) for instances in found for item in instances}
    scores = np.zeros((len(numbers), len(kinds)))
    for column, kind in enumerate(sorted(kinds)):
        shown = np.stack(
            [union([item for item in instances if (item.component, bool(item.members)) == kind]) for instances in found]
        )
        scores[:, column] = [overlap(shown, true == number) for number in numbers]
    rows, columns = linear_sum_assignment(-scores)
    assigned = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return {number: float(scores[row, assigned[row]]) if row in assigned else 0.0 for row, number in enumerate(numbers)}


def edit_quality(
    anomalies: Sequence[Anomaly],
    originals: Sequence[npt.NDArray[np.uint8]],
    found: Sequence[Sequence[Instance]],
    truths: Mapping[int, Truth] | None = None,
) -> EditQuality:
    """Look at generated images again.

    Args:
        anomalies: what was generated.
        originals: the good images that they were made from, (H, W, 3).
        found: the components that the generated images show, and what they make up.
        truths: component maps by the number of the good image; None where they are not known.
    """
    changed = [shows_change(anomaly, instances) for anomaly, instances in zip(anomalies, found, strict=True)]
    inside, outside = [], []
    for anomaly, original in zip(anomalies, originals, strict=True):
        difference = np.abs(anomaly.photo.astype(np.int16) - original).mean(axis=2)
        marked = np.any(anomaly.masks, axis=0)
        inside.append(float(difference[marked].mean()))
        outside.append(float(difference[~marked].mean()))
    return EditQuality(
        images=len(anomalies),
        intended=mean(changed),
        inside=mean(inside),
        outside=mean(outside),
        by_change=_by_change(anomalies, changed),
        true_masks=true_masks(anomalies, truths) if truths else None,
    )


def true_masks(anomalies: Sequence[Anomaly], truths: Mapping[int, Truth]) -> TrueMasks | None:
    """Compare masks with the truth; None if no true part was changed."""
    compared, ious, within = [], [], []
    for anomaly in anomalies:
        truth = true_change(anomaly, truths)
        if truth is not None:
            marked = _sized(np.any(anomaly.masks, axis=0), truth)
            compared.append(anomaly)
            ious.append(overlap(marked, truth))
            within.append(float(truth[marked].mean()))
    if not compared:
        return None
    return TrueMasks(len(compared), mean(ious), mean(within), _by_change(compared, ious))


def rarity(drawn: Sequence[Modification], population: Population) -> Rarity | None:
    """How rare the places of moved and doubled parts are; None if no place was drawn."""
    places = [(one.part.component, one.place) for one in drawn if one.place]
    if not places:
        return None
    return Rarity(
        seldom=mean(SELDOM < population.log_density(component, place) < 0 for component, place in places),
        distance=median(population.from_good(component, place) for component, place in places),
    )


def shows_change(anomaly: Anomaly, found: Sequence[Instance]) -> bool:
    """Whether the components of a generated image are those that its prompt asked for."""
    part = anomaly.modification.part
    if anomaly.change in {"duplicate", "move"}:
        there = _small(anomaly.masks[-1])
        arrived = any(item.component == part.component and overlap(item.mask, there) > FOUND for item in found)
        return arrived and (anomaly.change == "duplicate" or not _is_there(part, found))
    if anomaly.change == "level":
        same = [item for item in found if item.component == part.component]
        return all(overlap(item.mask, part.mask) < 1 - 0.5 * _share(anomaly, part) for item in same)
    return not _is_there(part, found)


def _by_change(anomalies: Sequence[Anomaly], values: Sequence[float]) -> dict[str, float]:
    """The mean for each kind of change."""
    kinds = sorted({anomaly.change for anomaly in anomalies})
    pairs = list(zip(anomalies, values, strict=True))
    return {kind: mean(value for anomaly, value in pairs if anomaly.change == kind) for kind in kinds}


def _is_there(part: Instance, found: Sequence[Instance]) -> bool:
    """Whether the part, or the largest piece of it, is still where it was and of the same kind."""
    piece = pieces(part)[0]
    return any(
        (item.component, item.mode) == (piece.component, piece.mode) and overlap(item.mask, piece.mask) > STILL_THERE
        for item in found
    )


def _share(anomaly: Anomaly, part: Instance) -> float:
    """How much of the part a change of its extent is."""
    return min(1.0, float(np.count_nonzero(_small(anomaly.masks[0])) / np.count_nonzero(part.mask)))


def _small(mask: Mask) -> Mask:
    """At the size of a network image."""
    size = (NETWORK_SIDE, NETWORK_SIDE)
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5)


def _sized(mask: Mask, other: Mask) -> Mask:
    """At the size of another mask; a component map may be smaller than its photograph."""
    return np.asarray(cv2.resize(mask.astype(np.uint8), other.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)
