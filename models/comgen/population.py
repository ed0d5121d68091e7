"""What is usual of a product: how many of each component, which kinds together, and where. Knows no pixel's colour."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import hypot

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import gaussian_kde

from models.comgen.components import Instance, union
from models.comgen.shapes import Mask, hull, roundness, spread
from models.comgen.wholes import arrange
from models.grid import NETWORK_SIDE

USUAL = 0.1  # share of good images, from which on a count or a pair of kinds is no anomaly
FEWEST = 5  # instances, without which nothing is known of a component's places
DEPENDABLE = 0.5  # share of the images that must agree on a component's count before it is edited
THINNEST, LONGEST = 2.2, 6.0  # pixels across, and length over width: an edge or a shadow is no part
COVERED = 0.3  # share of the images that show some component, from which on a place is the product's
RAGGED = 0.2  # roundness, below which it is what shows between parts
AGAIN = 0.4  # share of the images in which a component must be found as a part
ALIKE = 0.65  # overlap with outlines of its kind in other images: what is found otherwise in each is an edge's shine
LEAST_ALIKE = 0.5  # of what is loose
LOOSE = 0.45  # how uneven it may be around what lies on one ground, if its outline is always the same; else less
OUTLINE_SIDE = 64  # pixels on which outlines are compared
ATTACHED = 0.5  # share of a component's instances that are seen as part of a larger thing: alone it is not moved
NEAR = 0.05  # quantile of the good parts' own density, above which a place is usual
Kind = tuple[int, int]  # component and mode


class Population:
    """The components of many good images.

    `solid` is what was found of each image, of components whose number can be counted on, that is no edge and no
    shadow. `parts` are those of it that are worth editing: their component is found again and again, and they are
    `loose`, that is they lie on one ground and could lie elsewhere, or they have the same outline in other images (a
    liquid does, the shine on a glass's edge does not). `things` are what they make up (a label is moved with its
    prints), if they are loose. `touching` are those that border on another (a liquid has a level). `within` (256, 256)
    is where parts can come to lie: the hull of all places at which good images show some, and not the bare belt beside
    the product; `covered` (256, 256) is where there usually is something of it.
    """

    def __init__(
        self,
        images: Sequence[Sequence[Instance]],
        unevenness: Callable[[int, Instance], float] = lambda *_: 0.0,
    ) -> None:
        """Count what good images show.

        Args:
            images: the instances of each.
            unevenness: of what is around a thing in the image of this number (deviation over brightness).
        """
        self.images = images
        self.size = len(images)
        self._counts = [Counter(instance.component for instance in instances) for instances in images]
        kinds = [{_kind(instance) for instance in instances} for instances in images]
        self._alone = Counter(kind for seen in kinds for kind in seen)
        self._together = Counter((one, other) for seen in kinds for one in seen for other in seen if one != other)
        seen = Counter(instance.component for instances in images for instance in instances)
        self._editable = frozenset(
            component for component, times in seen.items() if times >= FEWEST and self._is_dependable(component)
        )
        self.solid = [self._parts_of(instances) for instances in images]
        found_in = Counter(component for of_image in self.solid for component in {part.component for part in of_image})
        again = {component for component, seen_in in found_in.items() if seen_in >= AGAIN * self.size}
        arranged = [arrange(parts) for parts in self.solid]
        made_up = [each.things for each in arranged]
        alike, things_alike = _Outlines(self.solid), _Outlines(made_up)

        def is_loose(image: int, thing: Instance, alike: _Outlines) -> bool:
            outline = alike(image, thing)
            return outline >= LEAST_ALIKE and unevenness(image, thing) <= LOOSE * outline

        self.loose = [
            [part for part in solid if part.component in again and is_loose(image, part, alike)]
            for image, solid in enumerate(self.solid)
        ]
        self.parts = [
            [part for part in solid if part in loose or (part.component in again and alike(image, part) >= ALIKE)]
            for image, (solid, loose) in enumerate(zip(self.solid, self.loose, strict=True))
        ]
        self.touching = [
            [part for part in each.touching if part in parts] for each, parts in zip(arranged, self.parts, strict=True)
        ]
        movable = again - _attached(self.solid, made_up)
        self.things = [
            [
                thing
                for thing in found
                if thing.component in (again if thing.members else movable) and is_loose(image, thing, things_alike)
            ]
            for image, found in enumerate(made_up)
        ]
        self.within = _hull(self.parts)
        self.covered: Mask = np.mean([union(instances) for instances in images], axis=0) > COVERED
        self._centres = _centres(chain(*images, (thing for found in made_up for thing in found if thing.members)))
        self._places = _places(self._centres)

    def things_of(self, instances: Sequence[Instance]) -> list[Instance]:
        """What several parts of an image make up."""
        things = arrange(self._parts_of(instances)).things
        return [thing for thing in things if thing.members]

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

    def from_good(self, component: int, place: tuple[float, float]) -> float:
        """Distance to the nearest place at which a good image shows a component, in sides of the image."""
        return min(hypot(place[0] - row, place[1] - column) for row, column in self._centres[component])

    def _is_dependable(self, component: int) -> bool:
        counts = Counter(counts[component] for counts in self._counts)
        count, images = counts.most_common(1)[0]
        return count > 0 and images >= DEPENDABLE * self.size

    def _parts_of(self, instances: Sequence[Instance]) -> list[Instance]:
        return [instance for instance in instances if self._is_part(instance)]

    def _is_part(self, instance: Instance) -> bool:
        """One that can be counted on, and neither an edge nor a shadow."""
        across, along = spread(instance.mask)
        is_thin = across < THINNEST or along > LONGEST * across
        return instance.component in self._editable and not is_thin and roundness(instance.mask) >= RAGGED


def centre(instance: Instance) -> tuple[float, float]:
    """Row and column in 0..1."""
    row, column = (np.argwhere(instance.mask).mean(axis=0) + 0.5) / NETWORK_SIDE
    return float(row), float(column)


class _Outlines:
    """The outlines of the parts, or of the things, of many images; by kind, where that is seen often enough."""

    def __init__(self, images: Sequence[Sequence[Instance]]) -> None:
        self._of: dict[Kind | int, list[tuple[int, npt.NDArray[np.float32]]]] = {}
        for image, found in enumerate(images):
            for part in found:
                outline = image, _centred(part.mask)
                self._of.setdefault(_kind(part), []).append(outline)
                self._of.setdefault(part.component, []).append(outline)

    def __call__(self, image: int, part: Instance) -> float:
        """Intersection over union with those of its kind in other images, each centred; the median, or 0 if few are."""
        own = _centred(part.mask)
        for known in (self._of[_kind(part)], self._of[part.component]):
            others = [outline for number, outline in known if number != image]
            if len(others) >= FEWEST:
                return float(np.median([np.minimum(own, one).sum() / np.maximum(own, one).sum() for one in others]))
        return 0.0


def _centred(mask: Mask) -> npt.NDArray[np.float32]:
    """A mask moved into the middle, small."""
    row, column = np.argwhere(mask).mean(axis=0)
    middle = (NETWORK_SIDE - 1) / 2
    move = np.array([[1, 0, middle - column], [0, 1, middle - row]], np.float32)
    moved = cv2.warpAffine(mask.astype(np.float32), move, (NETWORK_SIDE, NETWORK_SIDE))
    return np.asarray(cv2.resize(moved, (OUTLINE_SIDE, OUTLINE_SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _attached(parts: Sequence[Sequence[Instance]], things: Sequence[Sequence[Instance]]) -> set[int]:
    """The components that mostly are part of a larger thing."""
    seen = Counter(part.component for of_image in parts for part in of_image)
    joined = Counter(part.component for of_image in things for thing in of_image for part in thing.members)
    return {component for component, count in joined.items() if count > ATTACHED * seen[component]}


def _kind(instance: Instance) -> Kind:
    return instance.component, instance.mode


def _hull(parts: Sequence[Sequence[Instance]]) -> Mask:
    """The convex hull of the places at which at least two images show parts; everywhere, if there is no such place."""
    shown = np.sum([union(of_image) for of_image in parts], axis=0) >= 2
    return hull(shown) if shown.any() else np.ones((NETWORK_SIDE, NETWORK_SIDE), bool)


def _centres(instances: Iterable[Instance]) -> dict[int, list[tuple[float, float]]]:
    """Where each component is seen."""
    seen: dict[int, list[tuple[float, float]]] = {}
    for instance in instances:
        seen.setdefault(instance.component, []).append(centre(instance))
    return seen


def _places(centres: Mapping[int, Sequence[tuple[float, float]]]) -> dict[int, tuple[gaussian_kde, float]]:
    """For each component that is seen often enough, the density of its places and its low end on good parts."""
    found = {}
    for component, places in centres.items():
        if len(places) >= FEWEST:
            values: npt.NDArray[np.float64] = np.array(places).T
            jitter = np.random.default_rng(component).normal(0, 0.5 / NETWORK_SIDE, values.shape)  # never on one line
            estimate = gaussian_kde(values + jitter)
            found[component] = (estimate, float(np.quantile(estimate.logpdf(values), NEAR)))
    return found
