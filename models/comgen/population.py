"""What is usual of a product: how many of each component, which kinds together, and where. Knows no pixel's colour."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import gaussian_kde

from models.comgen.components import Instance
from models.comgen.shapes import spread
from models.grid import NETWORK_SIDE

USUAL = 0.1  # share of good images, from which on a count or a pair of kinds is no anomaly
DEPENDABLE = 0.5  # share of the images that must agree on a component's count before it is edited
THINNEST, LONGEST = 2.2, 6.0  # pixels across, and length over width: an edge or a shadow is no part
NEAR = 0.05  # quantile of the good parts' own density, above which a place is usual
Kind = tuple[int, int]  # component and mode


class Population:
    """The components of many good images; `parts` are those of each image that are worth editing."""

    def __init__(self, images: Sequence[Sequence[Instance]]) -> None:
        self.images = images
        self.size = len(images)
        self._counts = [Counter(instance.component for instance in instances) for instances in images]
        kinds = [{(instance.component, instance.mode) for instance in instances} for instances in images]
        self._alone = Counter(kind for seen in kinds for kind in seen)
        self._together = Counter((one, other) for seen in kinds for one in seen for other in seen if one != other)
        self._places = _places(images)
        self._editable = frozenset(component for component in self._places if self._is_dependable(component))
        self.parts = [[instance for instance in instances if self._is_part(instance)] for instances in images]

    def usual_count(self, component: int, count: int) -> bool:
        """Whether good images show so many of a component."""
        return sum(counts[component] == count for counts in self._counts) >= USUAL * self.size

    def usual_pair(self, one: Kind, other: Kind) -> bool:
        """Whether two kinds are seen together as often as chance would have it, by a tenth at least."""
        expected = self._alone[one] * self._alone[other] / self.size
        return self._together[one, other] >= USUAL * expected

    def log_density(self, component: int, place: tuple[float, float]) -> float:
        """How usual a place (row and column in 0..1) is for a component: over 0 it is as the good parts' own are.

        It is a logarithm, as far away no density is left.
        """
        estimate, least = self._places[component]
        return float(estimate.logpdf(np.array(place)[:, np.newaxis])[0] - least)

    def _is_dependable(self, component: int) -> bool:
        counts = Counter(counts[component] for counts in self._counts)
        count, images = counts.most_common(1)[0]
        return count > 0 and images >= DEPENDABLE * self.size

    def _is_part(self, instance: Instance) -> bool:
        """One that can be counted on, and neither an edge nor a shadow."""
        across, along = spread(instance.mask)
        return bool(instance.component in self._editable and across >= THINNEST and along <= LONGEST * across)


def centre(instance: Instance) -> tuple[float, float]:
    """Row and column in 0..1."""
    row, column = (np.argwhere(instance.mask).mean(axis=0) + 0.5) / NETWORK_SIDE
    return float(row), float(column)


def _places(images: Sequence[Sequence[Instance]]) -> dict[int, tuple[gaussian_kde, float]]:
    """For each component that is seen often enough, the density of its places and its low end on good parts."""
    seen: dict[int, list[tuple[float, float]]] = {}
    for instance in (instance for instances in images for instance in instances):
        seen.setdefault(instance.component, []).append(centre(instance))
    found = {}
    for component, places in seen.items():
        if len(places) >= 5:
            values: npt.NDArray[np.float64] = np.array(places).T
            jitter = np.random.default_rng(component).normal(0, 0.5 / NETWORK_SIDE, values.shape)  # never on one line
            estimate = gaussian_kde(values + jitter)
            found[component] = (estimate, float(np.quantile(estimate.logpdf(values), NEAR)))
    return found
