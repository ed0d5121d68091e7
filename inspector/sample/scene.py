"""What lies where: the tray's compartments, the parts in them, and the rules of a good assembly. Draws nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inspector.sample.plane import HEIGHT, WIDTH, Mask

Kind = Literal["bolt", "washer", "spring"]
Flavour = Literal["lemon", "cherry", "mint"]

FLAVOURS: tuple[Flavour, ...] = ("lemon", "cherry", "mint")
COMPONENTS = ("tray", "vial", "liquid", "label", "bolt", "washer", "spring", "cable")  # by number in the map
LEVELS = (0.58, 0.68)  # legal fill of the vial, as a share of its straight part


@dataclass(frozen=True, slots=True)
class Compartment:
    """A recess of the tray, in canvas pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def floor(self, inset: int = 7) -> Mask:
        """(512, 640) the flat ground within its walls."""
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[self.top + inset : self.bottom - inset, self.left + inset : self.right - inset] = True
        return mask


VIAL = Compartment(40, 38, 394, 160)
LABEL = Compartment(414, 38, 600, 160)
BOLTS = Compartment(40, 182, 290, 330)
WASHERS = Compartment(40, 352, 290, 474)
SPRING = Compartment(312, 182, 600, 290)
CABLE = Compartment(312, 312, 600, 474)
COMPARTMENTS = (VIAL, LABEL, BOLTS, WASHERS, SPRING, CABLE)


@dataclass(frozen=True, slots=True)
class Shape:
    """The capsule that a part needs for itself, in pixels."""

    half_length: float
    radius: float


SHAPES: dict[Kind, Shape] = {"bolt": Shape(36, 21), "washer": Shape(0, 33), "spring": Shape(68, 27)}


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a part lies: its centre in canvas pixels, its turn in radians."""

    x: float
    y: float
    angle: float


@dataclass(frozen=True, slots=True)
class Item:
    """One loose part."""

    kind: Kind
    pose: Pose


@dataclass(frozen=True, slots=True)
class Vial:
    """The vial: its liquid, and its fill as a share of its straight part."""

    pose: Pose
    flavour: Flavour
    level: float


@dataclass(frozen=True, slots=True)
class Label:
    """The printed card."""

    pose: Pose
    flavour: Flavour


@dataclass(frozen=True, slots=True)
class Scene:
    """One assembly. `looks` seeds what varies without meaning: grain, the cable's run, the roll of a bolt."""

    vial: Vial
    label: Label | None
    items: tuple[Item, ...]
    looks: int
    bent_spring: float = 0.0  # radians between the spring's ends
    bent_bolt: float = 0.0

    def of(self, kind: Kind) -> tuple[Item, ...]:
        """The loose parts of one kind."""
        return tuple(item for item in self.items if item.kind == kind)


def good_scene(rng: np.random.Generator) -> Scene:
    """A legal assembly: everything present, in its place, label and liquid of one flavour."""
    flavour = FLAVOURS[int(rng.integers(len(FLAVOURS)))]
    bolts = _laid_side_by_side(rng, BOLTS, "bolt", upright=True)
    washers = _laid_side_by_side(rng, WASHERS, "washer")
    spring = Item("spring", _near(rng, SPRING.centre, 16, 7, 5))
    return Scene(
        vial=Vial(_near(rng, VIAL.centre, 9, 5, 1.8), flavour, float(rng.uniform(*LEVELS))),
        label=Label(_near(rng, LABEL.centre, 9, 5, 3), flavour),
        items=(*bolts, *washers, spring),
        looks=int(rng.integers(2**31)),
    )


def _laid_side_by_side(
    rng: np.random.Generator, home: Compartment, kind: Kind, *, upright: bool = False
) -> tuple[Item, ...]:
    """Two parts as a packer lays them: next to each other, none quite like the last time."""
    x, y = home.centre
    apart = (home.right - home.left) / 5
    poses = [_near(rng, (x + side * apart, y), 12, 9, 14) for side in (-1, 1)]
    turn = math.pi / 2 if upright else 0.0
    return tuple(Item(kind, Pose(pose.x, pose.y, pose.angle + turn)) for pose in poses)


def scatter(
    rng: np.random.Generator, home: Compartment, kind: Kind, count: int, around: Sequence[Item] = ()
) -> tuple[Item, ...]:
    """`count` parts thrown into a compartment, clear of its walls and of each other and of those already there."""
    lying = list(around)
    gap = 5.0
    while len(lying) < len(around) + count:
        thrown = Item(kind, _thrown(rng, home, SHAPES[kind]))
        if all(_distance(thrown, other) > gap for other in lying):
            lying.append(thrown)
        gap -= 0.05  # a full compartment lets parts touch rather than never finishing
    return tuple(lying[len(around) :])


def _thrown(rng: np.random.Generator, home: Compartment, shape: Shape) -> Pose:
    angle = float(rng.uniform(-math.pi, math.pi))
    room_x = (home.right - home.left) / 2 - 9 - shape.radius - abs(math.cos(angle)) * shape.half_length
    room_y = (home.bottom - home.top) / 2 - 9 - shape.radius - abs(math.sin(angle)) * shape.half_length
    if room_x < 0 or room_y < 0:
        return _thrown(rng, home, shape)
    x, y = home.centre
    return Pose(x + float(rng.uniform(-room_x, room_x)), y + float(rng.uniform(-room_y, room_y)), angle)


def _distance(one: Item, other: Item) -> float:
    """Free pixels between two capsules; negative when they overlap."""
    free = np.hypot(*(_axis(one)[:, None] - _axis(other)[None, :]).transpose(2, 0, 1)).min()
    return float(free) - SHAPES[one.kind].radius - SHAPES[other.kind].radius


def _axis(item: Item) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(9, 2) points along the part's axis."""
    along = np.linspace(-1, 1, 9) * SHAPES[item.kind].half_length
    pose = item.pose
    return np.stack([pose.x + along * math.cos(pose.angle), pose.y + along * math.sin(pose.angle)], axis=1)


def _near(rng: np.random.Generator, place: tuple[float, float], reach_x: float, reach_y: float, degrees: float) -> Pose:
    return Pose(
        place[0] + float(rng.uniform(-reach_x, reach_x)),
        place[1] + float(rng.uniform(-reach_y, reach_y)),
        math.radians(float(rng.uniform(-degrees, degrees))),
    )
