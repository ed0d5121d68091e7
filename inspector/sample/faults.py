"""Assemblies that break a rule, and bent parts: each fault edits the good scene and says where it can be seen."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from inspector.sample.label import flavour_region
from inspector.sample.painting import Painting
from inspector.sample.plane import Mask
from inspector.sample.scene import (
    BOLTS,
    FLAVOURS,
    LABEL,
    SPRING,
    WASHERS,
    Compartment,
    Item,
    Kind,
    Scene,
    scatter,
)
from inspector.sample.vial import level_strip

Mark = Callable[[Painting], Mask]
_HOMES: dict[Kind, Compartment] = {"bolt": BOLTS, "washer": WASHERS, "spring": SPRING}


@dataclass(frozen=True, slots=True)
class Edit:
    """A faulty scene, and how to find the fault's pixels once it is painted."""

    scene: Scene
    mark: Mark


def missing_bolt(scene: Scene, rng: np.random.Generator) -> Edit:
    """One bolt is not there; it might be anywhere in its compartment."""
    return _missing(scene, "bolt", rng)


def missing_washer(scene: Scene, rng: np.random.Generator) -> Edit:
    """One washer is not there."""
    return _missing(scene, "washer", rng)


def missing_spring(scene: Scene, rng: np.random.Generator) -> Edit:
    """The spring is not there."""
    return _missing(scene, "spring", rng)


def missing_label(scene: Scene, _rng: np.random.Generator) -> Edit:
    """The card is not there."""
    return Edit(replace(scene, label=None), lambda _: LABEL.floor())


def extra_bolt(scene: Scene, rng: np.random.Generator) -> Edit:
    """A third bolt; any of the three is the one too many."""
    return _extra(scene, "bolt", rng)


def extra_washer(scene: Scene, rng: np.random.Generator) -> Edit:
    """A third washer."""
    return _extra(scene, "washer", rng)


def swapped_spring_and_bolt(scene: Scene, rng: np.random.Generator) -> Edit:
    """The spring lies where the bolts belong, and a bolt where the spring belongs."""
    spring = scatter(rng, BOLTS, "spring", 1)
    stayed = scatter(rng, BOLTS, "bolt", 1, spring)
    moved = scatter(rng, SPRING, "bolt", 1)
    items = (*stayed, *moved, *scene.of("washer"), *spring)
    return Edit(replace(scene, items=items), lambda painting: painting.item(1) | painting.of("spring"))


def misplaced_bolt(scene: Scene, rng: np.random.Generator) -> Edit:
    """A bolt lies in the compartment of the washers or of the spring."""
    return _misplaced(scene, 0, (WASHERS, SPRING), rng)


def misplaced_washer(scene: Scene, rng: np.random.Generator) -> Edit:
    """A washer lies in the compartment of the bolts or of the spring."""
    return _misplaced(scene, 2, (BOLTS, SPRING), rng)


def level_too_high(scene: Scene, rng: np.random.Generator) -> Edit:
    """Too much liquid."""
    return _level(scene, float(rng.uniform(0.77, 0.92)))


def level_too_low(scene: Scene, rng: np.random.Generator) -> Edit:
    """Not enough liquid."""
    return _level(scene, float(rng.uniform(0.26, 0.48)))


def wrong_pairing(scene: Scene, rng: np.random.Generator) -> Edit:
    """The card names another flavour than the vial holds."""
    if scene.label is None:
        raise ValueError("a scene without a label has no pairing to get wrong")
    others = [flavour for flavour in FLAVOURS if flavour != scene.vial.flavour]
    label = replace(scene.label, flavour=others[int(rng.integers(len(others)))])
    return Edit(replace(scene, label=label), lambda painting: flavour_region(label) | painting.liquid)


def bent_bolt(scene: Scene, rng: np.random.Generator) -> Edit:
    """A bolt whose shank is bent."""
    bend = float(rng.uniform(0.35, 0.6) * rng.choice([-1, 1]))
    return Edit(replace(scene, bent_bolt=bend), lambda painting: painting.item(0))


def bent_spring(scene: Scene, rng: np.random.Generator) -> Edit:
    """A spring that is kinked along its length."""
    bend = float(rng.uniform(0.55, 0.9) * rng.choice([-1, 1]))
    return Edit(replace(scene, bent_spring=bend), lambda painting: painting.of("spring"))


def _missing(scene: Scene, kind: Kind, rng: np.random.Generator) -> Edit:
    lost = scene.items.index(scene.of(kind)[int(rng.integers(len(scene.of(kind))))])
    items = scene.items[:lost] + scene.items[lost + 1 :]
    return Edit(replace(scene, items=items), lambda _: _HOMES[kind].floor())


def _extra(scene: Scene, kind: Kind, rng: np.random.Generator) -> Edit:
    added = scatter(rng, _HOMES[kind], kind, 1, scene.of(kind))
    return Edit(replace(scene, items=scene.items + added), lambda painting: painting.of(kind))


def _misplaced(scene: Scene, number: int, places: tuple[Compartment, ...], rng: np.random.Generator) -> Edit:
    item = scene.items[number]
    place = places[int(rng.integers(len(places)))]
    moved = scatter(rng, place, item.kind, 1, [other for other in scene.items if _within(other, place)])
    items = scene.items[:number] + moved + scene.items[number + 1 :]
    home = _HOMES[item.kind].floor()
    return Edit(replace(scene, items=items), lambda painting: painting.item(number) | home)


def _within(item: Item, place: Compartment) -> bool:
    return place.left < item.pose.x < place.right and place.top < item.pose.y < place.bottom


def _level(scene: Scene, level: float) -> Edit:
    vial = replace(scene.vial, level=level)
    return Edit(replace(scene, vial=vial), lambda _: level_strip(vial))
