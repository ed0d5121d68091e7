"""Exact image and localisation metrics, by sorting. Pure functions on arrays; knows no file and no network.

Every curve is an overlap (what share of the defects lies above a threshold, strict >) against the false positive rate
(what share of the defect-free pixels does), and every figure is the area under such a curve up to a limit:

    AUROC    all anomalous pixels, or images, are one region                limit 1
    AU-PRO   a region is a connected component                              limit 0.3
    AU-sPRO  a region is a defect; its overlap is min(TP / saturation, 1)   limit 0.05
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32] | npt.NDArray[np.float64]

PRO_LIMIT = 0.3
SPRO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)  # those that MVTec LOCO reports; 0.05 is the one that is quoted


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The anomaly scores of one defect's pixels."""

    scores: Scores  # (n,)
    saturation: float  # as many pixels found count as the whole defect; n for plain per-region overlap


@dataclass(frozen=True, slots=True, eq=False)
class FalsePositives:
    """How many defect-free pixels lie above each of the defects' scores."""

    levels: Scores  # (L,) ascending, distinct
    above: npt.NDArray[np.int64]  # (L,) pixels > level
    at_least: npt.NDArray[np.int64]  # (L,) pixels >= level
    pixels: int

    def __add__(self, other: "FalsePositives") -> "FalsePositives":
        """The counts over both sets of pixels; the levels must be the same."""
        above, at_least = self.above + other.above, self.at_least + other.at_least
        return FalsePositives(self.levels, above, at_least, self.pixels + other.pixels)


def auroc(good: Scores, anomalous: Scores) -> float | None:
    """P(anomalous > good) + P(anomalous = good) / 2; None where either is empty."""
    region = Region(anomalous, anomalous.size)
    return overlap_area([region], count_false_positives(levels_of([region]), [good]), limit=1.0)


def levels_of(regions: Iterable[Region]) -> Scores:
    """Every distinct score within the regions, ascending."""
    return np.unique(np.concatenate([np.empty(0, np.float32), *(region.scores for region in regions)]))


def count_false_positives(levels: Scores, images: Iterable[Scores]) -> FalsePositives:
    """Counts the defect-free pixels of many images, given one at a time, so that they need not be held together."""
    exceeded = np.zeros(levels.size + 1, np.int64)  # [k]: pixels greater than k of the levels
    reached = np.zeros(levels.size + 1, np.int64)  # [k]: pixels at or above k of the levels
    pixels = 0
    for scores in images:
        ordered = np.sort(scores, axis=None)
        np.add.at(exceeded, np.searchsorted(levels, ordered, side="left"), 1)
        np.add.at(reached, np.searchsorted(levels, ordered, side="right"), 1)
        pixels += ordered.size
    return FalsePositives(levels, _sum_beyond(exceeded), _sum_beyond(reached), pixels)


def overlap_area(regions: Sequence[Region], false_positives: FalsePositives, limit: float) -> float | None:
    """Area under the mean overlap of the regions over false positive rates 0..limit, divided by the limit.

    The curve is a straight line between neighbouring thresholds, also where the limit cuts it. None where there is no
    region or no defect-free pixel.
    """
    if not false_positives.pixels or not any(region.scores.size for region in regions):
        return None
    return float(np.mean([_region_area(region, false_positives, limit) for region in regions])) / limit


def _region_area(region: Region, false_positives: FalsePositives, limit: float) -> float:
    """The k-th highest pixel lifts the overlap by its share 1 / saturation, from its false positive rate on."""
    found = np.sort(region.scores)[::-1][: ceil(region.saturation)]
    shares = np.diff(np.minimum(np.arange(found.size + 1) / region.saturation, 1.0))
    level = np.searchsorted(false_positives.levels, found)
    start = false_positives.above[level] / false_positives.pixels
    end = false_positives.at_least[level] / false_positives.pixels
    return float(shares @ _ramp_area(start, end, limit))


def _ramp_area(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.float64]:
    """Area over 0..limit under a line that is 0 up to start, 1 from end on and straight between (ties make it so)."""
    width = np.where(end > limit, end - start, 1.0)
    cut = np.maximum(limit - start, 0.0) ** 2 / (2 * np.maximum(width, np.finfo(np.float64).tiny))
    return np.where(end > limit, np.where(start < limit, cut, 0.0), limit - (start + end) / 2)


def _sum_beyond(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.cumsum(counts[:0:-1])[::-1]
