"""The empty tray on the conveyor belt: moulded recesses with bevelled edges, their shade, the grain of the plastic."""

from functools import cache

import cv2
import numpy as np

from inspector.sample import texture
from inspector.sample.plane import HEIGHT, WIDTH, Plane, blur, box, inside, shifted, smoothstep
from inspector.sample.scene import COMPARTMENTS
from inspector.sample.shading import Light, Normals, diffuse, gloss, normals, tint

_DEPTH = 15.0  # of a recess, pixels
_RIM = 11.0  # height of the tray over the belt


def paint_tray(light: Light, rng: np.random.Generator) -> Plane:
    """(3, 512, 640) linear RGB of an empty tray."""
    grain = 1 + 0.07 * texture.cut(texture.moulded(), rng)
    grain += 0.045 * texture.cut(texture.cloudy(), rng)
    lit = diffuse(_normals(), light)
    lit *= grain
    shine = gloss(_normals(), light, 4)
    shine *= _gleam()
    colour = _albedo() * lit
    colour += shine
    colour *= tint(light.colour)
    return colour


def _coordinates() -> tuple[Plane, Plane]:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    return x, y


def _outline() -> Plane:
    x, y = _coordinates()
    return box(x - WIDTH / 2, y - HEIGHT / 2, WIDTH / 2 - 17, HEIGHT / 2 - 15, 24)


def _recesses() -> Plane:
    """Signed distance to the nearest compartment, negative within."""
    x, y = _coordinates()
    nearest = np.full((HEIGHT, WIDTH), 1e3, np.float32)
    for place in COMPARTMENTS:
        centre_x, centre_y = place.centre
        half = (place.right - place.left) / 2, (place.bottom - place.top) / 2
        nearest = np.minimum(nearest, box(x - centre_x, y - centre_y, *half, 15))
    return nearest


@cache
def _height() -> Plane:
    rim = _RIM * (1 - smoothstep(_outline(), -7, 1))
    lip = 1.6 * np.exp(-(((_recesses() - 3.5) / 2.2) ** 2))  # the raised edge that a mould leaves around a recess
    return np.asarray(rim + lip - _DEPTH * (1 - smoothstep(_recesses(), -8, 0.5)), np.float32)


@cache
def _normals() -> Normals:
    skin = 0.13 * texture.moulded()[:HEIGHT, :WIDTH] * inside(_outline())
    return normals(blur(_height(), 0.8) + skin + 0.10 * texture.woven() * (1 - inside(_outline())))


@cache
def _shade() -> Plane:
    """(512, 640) ambient occlusion at the foot of the walls, and the soft shadow that walls cast on the floor."""
    height = _height()
    hollow = np.clip((blur(height, 13) - height) / _DEPTH, 0, 1)
    shadow = np.zeros((HEIGHT, WIDTH), np.float32)
    for step in range(2, 17, 2):
        over = shifted(height, 0.62 * step, 0.79 * step) - height - 1.15 * step
        shadow = np.maximum(shadow, smoothstep(over, -1.0, 3.0))
    x, y = _coordinates()
    belt = 1 - inside(_outline())
    fallen = belt * inside(box(x - WIDTH / 2 - 6, y - HEIGHT / 2 - 8, WIDTH / 2 - 17, HEIGHT / 2 - 15, 24), 6)
    dark = np.maximum(blur(shadow, 2.6), 0.9 * fallen)
    return np.asarray((1 - 0.66 * hollow) * (1 - 0.60 * dark), np.float32)


@cache
def _gleam() -> Plane:
    return 0.085 * _shade()


@cache
def _albedo() -> Plane:
    """(3, 512, 640), its fixed shade within: anthracite tray with worn edges and moulded print, green belt."""
    tray = inside(_outline())
    worn = 0.25 * np.exp(-((_recesses() - 2.5) ** 2) / 8)
    plastic = tint((0.086, 0.093, 0.108)) * (1 + worn)
    belt = tint((0.115, 0.205, 0.165)) * (1 + 0.14 * texture.woven())
    mixed = plastic * tray + belt * (1 - tray)
    return np.asarray(mixed * (1 + 0.5 * _moulding()) * _shade(), np.float32)


def _moulding() -> Plane:
    mark = np.zeros((HEIGHT * 4, WIDTH * 4), np.uint8)
    cv2.putText(mark, "KT-640  REV C", (62 * 4, 346 * 4), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 255, 5, cv2.LINE_AA)
    cv2.putText(mark, ">PP-TV20<", (470 * 4, 306 * 4), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 255, 5, cv2.LINE_AA)
    return np.asarray(cv2.resize(mark, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32) / 255
