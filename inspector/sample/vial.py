"""The glass vial, its liquid up to a level, and its cap."""

import math
from dataclasses import replace

import numpy as np

from inspector.sample.canvas import Canvas
from inspector.sample.plane import Mask, Plane, Window, box, bump, dome, inside, smoothstep, window
from inspector.sample.scene import COMPONENTS, LEVELS, Flavour, Pose, Vial
from inspector.sample.shading import RGB, metal, normals, plastic, tint

RADIUS = 42.0
_BASE, _SHOULDER, _NECK, _CAP, _END = -146.0, 62.0, 88.0, 96.0, 146.0  # along the axis
_WALL = 5.0
_NECK_RADIUS, _CAP_RADIUS = 25.0, 31.0
_SCATTER: dict[Flavour, RGB] = {
    "lemon": (0.72, 0.50, 0.035),
    "cherry": (0.40, 0.022, 0.035),
    "mint": (0.035, 0.36, 0.15),
}


def paint_vial(canvas: Canvas, vial: Vial, rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Returns the silhouettes of the vial and of its liquid."""
    at = window(vial.pose.x, vial.pose.y, vial.pose.angle, _END, RADIUS)
    radius = _profile(at.u)
    edge = np.maximum(np.maximum(np.abs(at.v) - radius, _BASE - at.u), at.u - _CAP - 4)
    glass = inside(edge)
    cap = inside(_cap_edge(at))
    canvas.shadow(at, np.maximum(0.75 * glass, cap), 22, 0.85)
    silhouette = canvas.put(at, _glass(canvas, at, radius), glass, COMPONENTS.index("vial"))
    wet = _wet(at, vial.level)
    liquid = canvas.put(at, _liquid(canvas, at, vial, wet, rng), wet * 0.97, COMPONENTS.index("liquid"))
    _graduation(canvas, at)
    _reflections(canvas, at, radius, glass)
    silhouette |= _cap(canvas, vial.pose)
    return silhouette, liquid


def liquid_end(level: float) -> float:
    """Where a fill level lies along the vial's axis, pixels from its centre."""
    return _BASE + _WALL + 3 + level * (_CAP - _BASE - _WALL - 3)


def level_strip(vial: Vial) -> Mask:
    """(512, 640) between the vial's level and the nearest legal one."""
    at = window(vial.pose.x, vial.pose.y, vial.pose.angle, _END, RADIUS)
    legal = min(max(vial.level, LEVELS[0]), LEVELS[1])
    low, high = sorted((liquid_end(vial.level), liquid_end(legal)))
    strip = (np.abs(at.v) < _profile(at.u) - _WALL) & (at.u > low - 2) & (at.u < high + 2)
    mask = np.zeros((512, 640), np.bool_)
    mask[at.rows, at.columns] = strip
    return mask


def _profile(u: Plane) -> Plane:
    """The outer radius along the axis: round base, straight part, shoulder, neck."""
    rounding = 13.0
    into: Plane = np.clip(_BASE + rounding - u, 0, rounding)
    base: Plane = rounding - np.sqrt(np.maximum(rounding * rounding - into * into, 0))
    return RADIUS - base - (RADIUS - _NECK_RADIUS) * smoothstep(u, _SHOULDER, _NECK)


def _glass(canvas: Canvas, at: Window, radius: Plane) -> Plane:
    """What is seen through the empty glass: the tray, darkened towards the rims where the wall is seen edge-on."""
    t = np.clip(np.abs(at.v) / radius, 0, 1)
    through = canvas.under(at)
    rim = smoothstep(t, 0.80, 1.0)
    wall = bump(t - 0.90, 0.035)
    base = bump(at.u - _BASE - 5, 4)
    veil = 0.045 + 0.06 * rim + 0.11 * wall + 0.09 * base
    return np.asarray(through * (0.86 - 0.50 * rim) + veil * tint((0.85, 0.97, 1.0)), np.float32)


def _wet(at: Window, level: float) -> Plane:
    """Coverage of the liquid: within the wall, up to the meniscus that climbs the glass on both sides."""
    inner = _profile(at.u) - _WALL
    t = np.clip(at.v / inner, -1, 1)
    end = liquid_end(level) + 7 * (t * t * t * t) - 2.5
    return inside(np.maximum(np.maximum(np.abs(at.v) - inner, _BASE + _WALL + 3 - at.u), at.u - end), 0.9)


def _liquid(canvas: Canvas, at: Window, vial: Vial, wet: Plane, rng: np.random.Generator) -> Plane:
    """Beer-Lambert through the chord of the bore, scattered light, and the bright line that a full tube focuses."""
    inner = _profile(at.u) - _WALL
    t = np.clip(at.v / inner, -1, 1)
    chord = np.sqrt(np.maximum(1 - t * t, 0))
    own = tint(_SCATTER[vial.flavour])
    passed = np.exp(-(2.2 * (1 - own) + 0.3) * chord)
    lamp = _lamp_side(canvas, vial)
    focus = bump(t + 0.46 * lamp, 0.20) * 0.75 + 0.22 * bump(t + 0.75 * lamp, 0.12)
    body = 0.50 + 0.30 * chord + focus - 0.16 * lamp * t
    rim = 1 - 0.55 * smoothstep(np.abs(t), 0.86, 1.0)
    end = liquid_end(vial.level) + 7 * (t * t * t * t) - 2.5
    meniscus = 0.50 * bump(at.u - end + 3.0, 2.0) - 0.35 * bump(at.u - end + 8.5, 3.0)
    lit = (body * rim + meniscus) * own * (1 - 0.8 * passed) * tint(canvas.light.colour)
    colour = lit + canvas.under(at) * passed * 0.6 + 0.05 * np.maximum(meniscus, 0)
    return np.asarray(colour * (1 + _bubbles(at, vial, rng)) * np.minimum(1, 0.6 + wet), np.float32)


def _lamp_side(canvas: Canvas, vial: Vial) -> float:
    """The lamp's direction across the vial, -1..1; the focus line lies opposite."""
    x, y, _ = canvas.light.direction
    return max(-1.0, min(1.0, 1.25 * (y * math.cos(vial.pose.angle) - x * math.sin(vial.pose.angle))))


def _bubbles(at: Window, vial: Vial, rng: np.random.Generator) -> Plane:
    """A few air bubbles that cling near the meniscus."""
    total = np.zeros_like(at.u)
    for _ in range(int(rng.integers(0, 5))):
        u = liquid_end(vial.level) - float(rng.exponential(22)) - 10
        distance = np.hypot(at.u - u, at.v - float(rng.uniform(-24, 24)))
        size = float(rng.uniform(1.6, 3.2))
        total = total + 0.45 * bump(distance - size, 0.9) - 0.25 * bump(distance, size)
    return total


def _graduation(canvas: Canvas, at: Window) -> None:
    """Printed ticks; the two long ones bound the legal level."""
    beside = np.abs((at.u + 120 + 8.7) % 17.4 - 8.7)
    scale = inside(np.maximum(np.maximum(beside - 0.7, np.abs(at.v - 15) - 5), np.abs(at.u + 33) - 96))
    legal = np.minimum(*(np.abs(at.u - liquid_end(level)) for level in LEVELS))
    ink = np.maximum(scale, inside(np.maximum(legal - 0.9, np.abs(at.v - 10) - 12)))
    shade = 0.72 * tint(canvas.light.colour)
    canvas.put(at, shade, ink * 0.8)


def _reflections(canvas: Canvas, at: Window, radius: Plane, glass: Plane) -> None:
    """The lamp as a long streak with a window bar in it, a faint second one, and the bright edges of the wall."""
    t = at.v / np.maximum(radius, 1)
    x, y, _ = canvas.light.direction
    side = 0.60 * y - 0.1 * x
    bar = 1 - 0.85 * bump(at.u + 52, 2.4)
    ends = smoothstep(at.u, _BASE + 9, _BASE + 17) * (1 - 0.55 * smoothstep(at.u, 50, 64))
    streak = 0.95 * inside((np.abs(t - side) - 0.062) * radius, 1.6) * bar * ends
    faint = 0.13 * bump(t - 0.66, 0.07) * ends + 0.10 * bump(np.abs(t) - 0.965, 0.022)
    canvas.under(at)[:] += (streak + faint) * glass * tint(canvas.light.colour)


def _cap_edge(at: Window) -> Plane:
    return box(at.u - (_CAP + _END) / 2, at.v, (_END - _CAP) / 2, _CAP_RADIUS, 4)


def _cap(canvas: Canvas, pose: Pose) -> Mask:
    """A ribbed screw cap of light grey plastic behind a bare metal ring."""
    middle = (_CAP + _END) / 2
    x, y = pose.x + middle * math.cos(pose.angle), pose.y + middle * math.sin(pose.angle)
    near = window(x, y, pose.angle, (_END - _CAP) / 2, _CAP_RADIUS)
    at = replace(near, u=near.u + middle)
    angle = np.arcsin(np.clip(at.v / _CAP_RADIUS, -1, 1))
    ribbed = smoothstep(at.u, _CAP + 10, _CAP + 13) * (1 - smoothstep(at.u, _END - 7, _END - 4))
    ribs = 0.8 * np.cos(angle * 34) * ribbed
    height = dome(at.v, _CAP_RADIUS + 0.5) + ribs - 1.6 * smoothstep(at.u, _END - 5, _END)
    surface = normals(np.asarray(height, np.float32))
    colour = plastic(surface, tint((0.33, 0.34, 0.36)), canvas.light, 0.10, 4) * (1 + 0.12 * ribs)
    ring = inside(np.abs(at.u - _CAP - 4) - 4)
    colour = colour * (1 - ring) + ring * metal(surface, canvas.light, (0.8, 0.82, 0.85), 0.2)
    groove = 1 - 0.6 * bump(at.u - _CAP - 9, 1.2)
    return canvas.put(at, np.asarray(colour * groove, np.float32), inside(_cap_edge(at)), COMPONENTS.index("vial"))
