"""One sample part: a good or a faulty assembly, photographed, with the truth about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inspector.inspection import Image
from inspector.sample import damage, faults
from inspector.sample.optics import expose, random_view, seen_map, seen_mask
from inspector.sample.painting import Painting, paint
from inspector.sample.plane import Mask
from inspector.sample.scene import Scene, good_scene
from inspector.sample.shading import random_light

FaultKind = Literal["logical", "structural"]
_EDITS: dict[str, Callable[[Scene, np.random.Generator], faults.Edit]] = {
    edit.__name__: edit
    for edit in (
        faults.missing_bolt,
        faults.missing_washer,
        faults.missing_spring,
        faults.missing_label,
        faults.extra_bolt,
        faults.extra_washer,
        faults.swapped_spring_and_bolt,
        faults.misplaced_bolt,
        faults.misplaced_washer,
        faults.level_too_high,
        faults.level_too_low,
        faults.wrong_pairing,
        faults.bent_bolt,
        faults.bent_spring,
    )
}
_DAMAGE: dict[str, Callable[[Painting, np.random.Generator], Mask]] = {
    touch.__name__: touch
    for touch in (
        damage.scratched_tray,
        damage.scratched_label,
        damage.dented_tray,
        damage.contamination,
        damage.fibre,
        damage.cracked_vial,
    )
}
FAULTS: dict[str, FaultKind] = {
    **{name: "structural" if name.startswith("bent") else "logical" for name in _EDITS},
    **dict.fromkeys(_DAMAGE, "structural"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Defect:
    """One flaw: its name in `FAULTS`, and its pixels as (512, 640)."""

    name: str
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class SamplePart:
    """A photograph, (512, 640, 3) RGB, and the truth: component numbers (512, 640) into `COMPONENTS`, and flaws."""

    image: Image
    components: Image
    defects: tuple[Defect, ...]
    fault: str | None


def render(seed: int, fault: str | None = None) -> SamplePart:
    """The part of this seed, good or with one of `FAULTS`; the same seed without the fault is the same assembly.

    Raises:
        ValueError: no such fault.
    """
    if fault is not None and fault not in FAULTS:
        raise ValueError(f"the sample product has no fault {fault!r}; it has {', '.join(FAULTS)}")
    scenery, flaw, camera = (np.random.default_rng([seed, stream]) for stream in range(3))
    scene = good_scene(scenery)
    light = random_light(camera)
    painting, mask = _flawed(scene, fault, flaw, lambda edited: paint(edited, light))
    view = random_view(camera)
    components = seen_map(painting.canvas.components, view)
    defects = () if fault is None or mask is None else (Defect(fault, seen_mask(mask, view)),)
    return SamplePart(expose(painting.canvas.colour, view, camera), components, defects, fault)


def _flawed(
    scene: Scene, fault: str | None, rng: np.random.Generator, brush: Callable[[Scene], Painting]
) -> tuple[Painting, Mask | None]:
    """The painted scene with the fault in it, and the fault's pixels on the canvas."""
    if fault is None:
        return brush(scene), None
    if fault in _EDITS:
        edit = _EDITS[fault](scene, rng)
        painting = brush(edit.scene)
        return painting, edit.mark(painting)
    painting = brush(scene)
    return painting, _DAMAGE[fault](painting, rng)
