"""The turned parts: hex bolts lying on their side, and washers. Each is drawn once, from its own coordinates."""

import math

import numpy as np

from inspector.sample import texture
from inspector.sample.canvas import Canvas
from inspector.sample.plane import Mask, Plane, Window, blur, box, bump, dome, inside, smoothstep, window
from inspector.sample.scene import COMPONENTS, Pose
from inspector.sample.shading import metal, normals

_HEAD = (-54.0, -37.0)  # along the bolt's axis
_TIP = 50.0
_SHANK_RADIUS = 9.5
_FLATS = 15.5  # half the distance across the head's flats
_WASHER = (15.5, 31.0)  # radii
_ZINC = (1.02, 0.98, 0.88)
_STEEL = (0.80, 0.84, 0.90)


def paint_bolt(canvas: Canvas, pose: Pose, rng: np.random.Generator, bend: float = 0.0) -> Mask:
    """A zinc-plated hex bolt; `bend` radians between head and tip. Returns its silhouette."""
    at = window(pose.x, pose.y, pose.angle, 58, 24 + 60 * abs(bend))
    past = np.maximum(at.u + 12, 0)
    v = at.v - bend * past * past / 90
    shank = _shank_radius(at.u + 0.25 * v, float(rng.uniform(0, 6)))
    head, head_alpha = _head(at.u, v, float(rng.uniform(0, math.pi / 3)))
    shank_alpha = inside(np.maximum(np.abs(v) - shank, np.maximum(_HEAD[1] - 2 - at.u, at.u - _TIP)))
    alpha = np.maximum(head_alpha, shank_alpha)
    height = head_alpha * head + (1 - head_alpha) * dome(v, shank)
    canvas.shadow(at, alpha, 13)
    colour = metal(normals(blur(np.asarray(height, np.float32), 0.6)), canvas.light, _ZINC, roughness=0.16)
    grain = 1 + 0.06 * texture.cut(texture.moulded(), rng, *at.u.shape)
    crease = 1 - 0.55 * bump(at.u - _HEAD[1] - 1.0, 1.6) * (1 - head_alpha)
    return canvas.put(at, colour * (grain * crease), alpha, COMPONENTS.index("bolt"))


def paint_washer(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> Mask:
    """A flat steel washer with turning marks. Returns its silhouette."""
    at = window(pose.x, pose.y, pose.angle, _WASHER[1], _WASHER[1])
    radius = np.hypot(at.u, at.v)
    ring = np.maximum(_WASHER[0] - radius, radius - _WASHER[1])
    alpha = inside(ring)
    height = 3.2 * smoothstep(-ring, -0.5, 3.4)
    canvas.shadow(at, alpha, 4)
    colour = metal(normals(np.asarray(height, np.float32)), canvas.light, _STEEL, roughness=0.35)
    sheen = _turned(at, pose.angle, canvas, rng) * smoothstep(-ring, 1.0, 3.0)
    return canvas.put(at, colour * (0.40 + sheen), alpha, COMPONENTS.index("washer"))


def _shank_radius(along: Plane, phase: float) -> Plane:
    """The bolt's radius along its axis: plain, then threaded, then the chamfered tip."""
    ridge: Plane = np.abs((along / 4.6 + phase) % 1 - 0.5) * 4 - 1
    thread = smoothstep(along, -16, -12) * ridge * 0.95
    return _SHANK_RADIUS + thread - 4.0 * smoothstep(along, _TIP - 7, _TIP)


def _head(u: Plane, v: Plane, roll: float) -> tuple[Plane, Plane]:
    """Height and coverage of a hexagonal prism rolled about the bolt's axis."""
    facets = [roll + k * math.pi / 3 - math.pi / 2 for k in range(4)]
    tops = [(_FLATS - v * math.sin(a)) / math.cos(a) for a in facets if math.cos(a) > 0.08]
    corner = _FLATS / math.cos(math.pi / 6)
    reach = max(abs(corner * math.sin(roll + math.pi / 6 + k * math.pi / 3)) for k in range(3))
    height = np.clip(np.minimum.reduce(tops), 0, corner)
    middle, half = (_HEAD[0] + _HEAD[1]) / 2, (_HEAD[1] - _HEAD[0]) / 2
    chamfer = 3.5 * (1 - smoothstep(u, _HEAD[0], _HEAD[0] + 5)) + 2.0 * smoothstep(u, _HEAD[1] - 2.5, _HEAD[1])
    return height - chamfer, inside(box(u - middle, v, half, reach, 2.0))


def _turned(at: Window, turn: float, canvas: Canvas, rng: np.random.Generator) -> Plane:
    """The two bright wedges that concentric turning marks show towards a lamp, broken up by the marks."""
    x, y, _ = canvas.light.direction
    lamp = math.atan2(y, x)
    angle = np.arctan2(at.v, at.u)
    wedge = np.cos(angle + turn - lamp)
    wedge = wedge * wedge
    marks = rng.standard_normal(80, dtype=np.float32)
    rings = np.interp(np.hypot(at.u, at.v), np.arange(80) * 0.6, marks).astype(np.float32)
    return (0.06 + 1.10 * wedge * wedge * wedge) * (1 + 0.16 * rings)
