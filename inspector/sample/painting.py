"""A scene painted on the canvas, with the silhouette of every part in it."""

from dataclasses import dataclass

import numpy as np

from inspector.sample.canvas import Canvas
from inspector.sample.label import paint_label
from inspector.sample.metal import paint_bolt, paint_washer
from inspector.sample.plane import Mask
from inspector.sample.scene import Item, Kind, Scene
from inspector.sample.shading import Light
from inspector.sample.tray import paint_tray
from inspector.sample.tube import paint_cable, paint_spring
from inspector.sample.vial import paint_vial


@dataclass(frozen=True, slots=True, eq=False)
class Painting:
    """What has been painted; silhouettes are (512, 640) on the canvas."""

    scene: Scene
    canvas: Canvas
    vial: Mask
    liquid: Mask
    items: tuple[tuple[Item, Mask], ...]

    def of(self, *kinds: Kind) -> Mask:
        """Where the loose parts of these kinds lie."""
        mask = np.zeros_like(self.vial)
        for item, silhouette in self.items:
            if item.kind in kinds:
                mask |= silhouette
        return mask

    def item(self, number: int) -> Mask:
        """Where one of the scene's items lies."""
        return self.items[number][1]


def paint(scene: Scene, light: Light) -> Painting:
    """Paint from back to front. Each part draws its looks from its own stream, so that one fault changes one thing."""
    canvas = Canvas(paint_tray(light, _looks(scene, 0)), light)
    vial, liquid = paint_vial(canvas, scene.vial, _looks(scene, 1))
    if scene.label:
        paint_label(canvas, scene.label, _looks(scene, 2))
    paint_cable(canvas, _looks(scene, 3))
    items = tuple((item, _paint_item(canvas, scene, number)) for number, item in enumerate(scene.items))
    return Painting(scene, canvas, vial, liquid, items)


def _looks(scene: Scene, stream: int) -> np.random.Generator:
    return np.random.default_rng([scene.looks, stream])


def _paint_item(canvas: Canvas, scene: Scene, number: int) -> Mask:
    item = scene.items[number]
    if item.kind == "spring":
        return paint_spring(canvas, item.pose, scene.bent_spring)
    looks = _looks(scene, 4 + number)
    if item.kind == "washer":
        return paint_washer(canvas, item.pose, looks)
    return paint_bolt(canvas, item.pose, looks, scene.bent_bolt if number == 0 else 0.0)
