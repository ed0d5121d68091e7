"""How well anomaly maps show where the defects are: pixel AUROC, AU-PRO and AU-sPRO of a whole test set.

Maps are kept at the network's resolution and enlarged one at a time, so that what is held at full size is only the
defects' own pixels (about 12 bytes each, and 20 for each of their distinct scores), never all of the images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import cv2
import numpy as np
import numpy.typing as npt

from models.data import GOOD
from models.ground_truth import GroundTruth
from models.metrics import (
    PRO_LIMIT,
    SPRO_LIMITS,
    FalsePositives,
    Region,
    count_false_positives,
    levels_of,
    overlap_area,
)

LOGICAL = "logical_anomalies"
STRUCTURAL = "structural_anomalies"


@dataclass(frozen=True, slots=True, eq=False)
class LocatedImage:
    """One image's anomaly map beside what is marked in it."""

    type: str
    anomaly_map: npt.NDArray[np.float32]  # (h, w), the network's resolution
    size: tuple[int, int]  # (H, W) of the image
    truth: GroundTruth

    def full_map(self) -> npt.NDArray[np.float32]:
        """The anomaly map at the image's own size, (H, W)."""
        height, width = self.size
        return cv2.resize(self.anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Localisation:
    """The figures; None without ground truth or without defect-free pixels."""

    pixel_auroc: float | None
    au_pro: float | None
    au_spro: dict[str, float | None]  # by false positive rate limit


@dataclass(frozen=True, slots=True, eq=False)
class _Marked:
    """The scores of what is marked in one image."""

    whole: Region
    components: tuple[Region, ...]
    defects: tuple[Region, ...]


def localise(images: Sequence[LocatedImage]) -> Localisation:
    """The figures over the good images and the anomalous ones that somebody has marked; both kinds must be there.

    The false positive rate is pooled over pixels. AU-sPRO is the mean of logical and structural anomalies where both
    exist, each with its own images and the good ones; else it is over all.
    """
    marked = {kind: [_marked(image) for image in images if image.type == kind] for kind in _types(images)}
    everything = [one for group in marked.values() for one in group]
    levels = levels_of(one.whole for one in everything)
    if not levels.size:
        return Localisation(None, None, {str(limit): None for limit in SPRO_LIMITS})
    counts = {
        kind: count_false_positives(levels, (_free_scores(image) for image in images if image.type == kind))
        for kind in (GOOD, *marked)
    }
    pooled = reduce(add, counts.values())
    whole = np.concatenate([np.empty(0, np.float32), *(one.whole.scores for one in everything)])
    return Localisation(
        pixel_auroc=overlap_area([Region(whole, whole.size)], pooled, limit=1.0),
        au_pro=overlap_area([region for one in everything for region in one.components], pooled, PRO_LIMIT),
        au_spro={str(limit): _au_spro(marked, counts, limit) for limit in SPRO_LIMITS},
    )


def _types(images: Iterable[LocatedImage]) -> list[str]:
    return sorted({image.type for image in images} - {GOOD})


def _au_spro(marked: dict[str, list[_Marked]], counts: dict[str, FalsePositives], limit: float) -> float | None:
    halves = [_au_spro_of([kind], marked, counts, limit) for kind in (LOGICAL, STRUCTURAL) if kind in marked]
    logical_and_structural = [area for area in halves if area is not None]
    if len(logical_and_structural) == 2:
        return sum(logical_and_structural) / 2
    return _au_spro_of(list(marked), marked, counts, limit)


def _au_spro_of(
    kinds: list[str], marked: dict[str, list[_Marked]], counts: dict[str, FalsePositives], limit: float
) -> float | None:
    defects = [region for kind in kinds for one in marked[kind] for region in one.defects]
    return overlap_area(defects, reduce(add, (counts[kind] for kind in (GOOD, *kinds))), limit)


def _marked(image: LocatedImage) -> _Marked:
    scores, truth = image.full_map().ravel(), image.truth
    return _Marked(
        whole=Region(scores[truth.pixels], truth.pixels.size),
        components=tuple(Region(scores[pixels], pixels.size) for pixels in truth.regions),
        defects=tuple(Region(scores[defect.pixels], defect.saturation) for defect in truth.defects),
    )


def _free_scores(image: LocatedImage) -> npt.NDArray[np.float32]:
    return np.delete(image.full_map().ravel(), image.truth.pixels)
