"""Prompt modifications: what is done to a product's components, and whether that is an anomaly. Draws no pixel."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import shift

from models.comgen.components import Instance, union
from models.comgen.composite import dilate
from models.comgen.population import Population, centre
from models.comgen.shapes import Mask
from models.grid import NETWORK_SIDE

Change = Literal["drop", "duplicate", "move", "swap", "replace", "other kind", "level"]
CHANGES: tuple[Change, ...] = get_args(Change)
PLACES = 80  # that are tried for a part
WITHIN = 0.6  # share of a part that must come to lie on the product: it may hang over its edge
FLOWS = 0.6  # share of what a level moves into, or what follows it, that is the product's and not the belt's
RIM, BORDERING = 3, 0.15  # pixels around a part, and the share of them on what it lies on
RARE = 1.0  # by how much the density of a rare place is, in its logarithm, below what is usual
TURNS = (-40.0, 40.0)  # degrees
FILLING = 0.01  # share of the image, from which on a part is taken to be the content of something
LEVELS = (0.12, 0.4)  # of a part's extent, by which it grows or shrinks
Place = tuple[float, float]  # row and column in 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Modification:
    """One change of one image's prompt."""

    change: Change
    part: Instance
    other: Instance | None = None  # to swap with (same image), or that comes in its stead (another image)
    other_image: int | None = None
    place: Place | None = None  # where it goes
    degrees: float = 0.0
    step: tuple[float, float] = (0.0, 0.0)  # by which its border moves, down and right, share of the image
    grow: bool = False

    def words(self, instances: Sequence[Instance], names: Sequence[str]) -> tuple[str, str]:
        """The image's prompt before and after."""
        part, other = (pieces(thing) if thing else () for thing in (self.part, self.other))
        before = [_word(instance, names) for instance in instances]
        rest = [_word(instance, names) for instance in instances if instance not in {*part, *other}]
        words, others = ([_word(instance, names) for instance in thing] for thing in (part, other))
        match self.change:
            case "drop":
                after = rest
            case "duplicate":
                after = before + words
            case "replace" | "other kind":
                after = rest + others
            case "swap":
                after = rest + [f"{word} in its place" for word in words + others]
            case "move":
                after = rest + [f"moved {word}" for word in words]
            case "level":
                after = rest + [f"{'grown' if self.grow else 'shrunk'} {word}" for word in words]
        return _counted(before), _counted(after)


def modify(
    image: int, change: Change, population: Population, rng: np.random.Generator, *, rare: bool = True
) -> Modification | None:
    """Draw a change of one good image.

    Args:
        image: which of the population.
        change: what is done.
        population: what is usual.
        rng: draws the part and where it goes.
        rare: prefer layouts from the tail of the places' density (ComGEN's low-density sampling).

    Returns:
        None: the image has no part that this can be done to such that the outcome is not usual.
    """
    choice = _editable(image, change, population)
    for chosen in rng.permutation(len(choice)).tolist():
        drawn = _draw(image, change, choice[chosen], population, rng, rare=rare)
        if drawn and is_anomalous(drawn, image, population):
            return drawn
    return None


def pieces(thing: Instance) -> tuple[Instance, ...]:
    """What it is made of."""
    return thing.members or (thing,)


def is_anomalous(drawn: Modification, image: int, population: Population) -> bool:
    """Whether a prompt is out of distribution: counts, pairs of kinds, places. What is legal is no anomaly."""
    component, other = drawn.part.component, drawn.other
    counts = Counter(instance.component for instance in population.images[image])
    changed = Counter(piece.component for piece in pieces(drawn.part))
    match drawn.change:
        case "drop" | "replace":
            unusual = any(not population.usual_count(one, counts[one] - less) for one, less in changed.items())
        case "duplicate":
            unusual = any(not population.usual_count(one, counts[one] + more) for one, more in changed.items())
        case "move":
            unusual = drawn.place is not None and population.log_density(component, drawn.place) < 0
        case "swap":
            unusual = other is not None and (
                population.log_density(component, centre(other)) < 0
                or population.log_density(other.component, centre(drawn.part)) < 0
            )
        case "other kind":
            unusual = other is not None and _clashes(drawn.part, other, population.parts[image], population)
        case "level":
            unusual = True  # the extent is drawn beyond what varies
    return unusual


def _clashes(part: Instance, other: Instance, parts: Sequence[Instance], population: Population) -> bool:
    """Whether another kind of a part does not go with the rest of the image's parts."""
    kind, rest = (other.component, other.mode), [item for item in parts if item is not part]
    return any(not population.usual_pair(kind, (item.component, item.mode)) for item in rest)


def _editable(image: int, change: Change, population: Population) -> list[Instance]:
    """What this can be done to: a print may be missing or of another kind, but it is moved with its label.

    A level is that of a liquid, on which nothing lies; a label with its prints has none.
    """
    match change:
        case "drop":
            return list(dict.fromkeys([*population.things[image], *population.parts[image]]))
        case "other kind":
            return population.loose[image]
        case "level":
            large = [part for part in population.touching[image] if part.mask.mean() >= FILLING]
            return [part for part in large if not any(_holds(part, item) for item in population.solid[image])]
        case _:
            return population.things[image]


def _draw(
    image: int,
    change: Change,
    part: Instance,
    population: Population,
    rng: np.random.Generator,
    *,
    rare: bool,
) -> Modification | None:
    match change:
        case "drop":
            return Modification(change, part)
        case "duplicate" | "move":
            place = _place(part, population.solid[image], population, rng, rare=rare)
            turn = float(rng.uniform(*TURNS)) if rng.random() < 0.5 else 0.0
            return Modification(change, part, place=place, degrees=turn) if place else None
        case "swap":
            things = population.things[image]
            others = [item for item in things if item.component != part.component and _alike(item, part)]
            return Modification(change, part, other=others[int(rng.integers(len(others)))]) if others else None
        case "replace" | "other kind":
            return _from_elsewhere(image, change, part, population, rng)
        case "level":
            drawn = _level(part, rng)
            return drawn if _flows(drawn, population) else None


def _place(
    part: Instance, parts: Sequence[Instance], population: Population, rng: np.random.Generator, *, rare: bool
) -> Place | None:
    """Where a part may go, on the product and on no part that it does not border on; a rare place, or any."""
    rim = dilate(part.mask, RIM) & ~part.mask
    strange = [item for item in parts if item not in pieces(part) and not _holds(item, part) and not _bears(item, rim)]
    busy = union(strange)
    rows, columns = np.nonzero(part.mask)
    free = []
    for _ in range(PLACES):
        down = int(rng.integers(-rows.min(), NETWORK_SIDE - rows.max()))
        across = int(rng.integers(-columns.min(), NETWORK_SIDE - columns.max()))
        there = rows + down, columns + across
        is_free = not busy[there].any() and population.within[there].mean() > WITHIN
        if is_free and np.hypot(down, across) > np.sqrt(len(rows)):
            free.append(((rows.mean() + down + 0.5) / NETWORK_SIDE, (columns.mean() + across + 0.5) / NETWORK_SIDE))
    if not free:
        return None
    if not rare:
        return free[0]
    return min(free, key=lambda place: abs(population.log_density(part.component, place) + RARE))


def _from_elsewhere(
    image: int, change: Change, part: Instance, population: Population, rng: np.random.Generator
) -> Modification | None:
    """Another kind of the same component, or another component, out of another good image."""
    for _ in range(PLACES):
        other_image = int(rng.integers(population.size))
        candidates = [
            item
            for item in _editable(other_image, change, population)
            if other_image != image and _alike(item, part)
            if (item.component != part.component if change == "replace" else item.component == part.component)
            if change == "replace" or item.mode != part.mode
        ]
        if candidates:
            other = candidates[int(rng.integers(len(candidates)))]
            return Modification(change, part, other=other, other_image=other_image)
    return None


def _level(part: Instance, rng: np.random.Generator) -> Modification:
    """The border on one side moves, along the longer or the shorter extent."""
    rows, columns = np.nonzero(part.mask)
    share, grow = float(rng.uniform(*LEVELS)), bool(rng.random() < 0.5)
    sign = float(rng.choice((-1, 1)))
    if rng.random() < 0.5:
        return Modification("level", part, step=(sign * share * np.ptp(rows) / NETWORK_SIDE, 0.0), grow=grow)
    return Modification("level", part, step=(0.0, sign * share * np.ptp(columns) / NETWORK_SIDE), grow=grow)


def _flows(drawn: Modification, population: Population) -> bool:
    """Whether the border moves into the product, or the product follows it: a liquid rises into the glass above it."""
    step = [round(NETWORK_SIDE * share) for share in drawn.step]
    moved = shift(drawn.part.mask, step, order=0)
    lost = drawn.part.mask & ~moved
    entered = moved & ~drawn.part.mask if drawn.grow else shift(lost, [-size for size in step], order=0)
    return bool(entered.any() and population.covered[entered].mean() > FLOWS)


def _alike(one: Instance, other: Instance) -> bool:
    """Near enough in size to lie where the other lies."""
    ratio = np.count_nonzero(one.mask) / np.count_nonzero(other.mask)
    return bool(1 / 3 < ratio < 3)


def _holds(outer: Instance, inner: Instance) -> bool:
    """Whether one part lies on the other: a print on its label."""
    filled = _box(outer.mask)
    return bool(filled[inner.mask].mean() > 0.9 and np.count_nonzero(outer.mask) > np.count_nonzero(inner.mask))


def _bears(ground: Instance, rim: Mask) -> bool:
    """Whether what has this rim lies on something that surrounds it: a label on the juice above and below it."""
    return bool(ground.mask[rim].mean() > BORDERING) if rim.any() else False


def _box(mask: Mask) -> Mask:
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


def _word(instance: Instance, names: Sequence[str]) -> str:
    name = names[instance.component]
    return f"{name} of kind {instance.mode + 1}" if instance.mode else name


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" if count > 1 else word for word, count in sorted(Counter(words).items()))
