"""Round bars along a path: the coil spring and the cable with its two connectors."""

import math

import numpy as np

from inspector.sample.canvas import Canvas
from inspector.sample.path import Path, distance_to, heading, placed
from inspector.sample.plane import Mask, Plane, Window, box, bump, dome, inside, smoothstep, window
from inspector.sample.scene import CABLE, COMPONENTS, Pose
from inspector.sample.shading import metal, normals, plastic, tint

_COIL_RADIUS, _WIRE_RADIUS, _TURNS, _SPRING_LENGTH = 20.0, 2.7, 13, 128.0
_JACKET_RADIUS = 5.2
_PIECE = 26  # path points painted at once, so that a later turn lies on an earlier one


def paint_spring(canvas: Canvas, pose: Pose, bend: float = 0.0) -> Mask:
    """A coil spring lying on its side; `bend` radians between its ends. Returns its silhouette, gaps filled."""
    at = window(pose.x, pose.y, pose.angle, _SPRING_LENGTH / 2 + 6, _COIL_RADIUS + 6 + 40 * abs(bend))
    sag = bend / (2 * _SPRING_LENGTH)
    across = at.v - sag * at.u * at.u
    along = at.u * (1 + 2 * sag * across)
    body = inside(box(along, across, _SPRING_LENGTH / 2 + 2, _COIL_RADIUS + _WIRE_RADIUS, 4))
    canvas.shadow(at, body, 15)
    canvas.under(at)[:] *= 1 - 0.5 * body
    barrel = dome(across, _COIL_RADIUS + _WIRE_RADIUS)
    for front in (False, True):
        distance = distance_to(at, _strands(pose, sag, front))
        height = dome(distance, _WIRE_RADIUS + 0.4) + (0.55 * barrel if front else 0.15 * (20 - barrel))
        colour = metal(normals(np.asarray(height, np.float32)), canvas.light, (0.92, 0.90, 0.86), roughness=0.15)
        alpha = inside(distance - _WIRE_RADIUS)
        if front:
            canvas.shadow(at, alpha, 9, 0.55)
        canvas.put(at, colour * (0.95 if front else 0.26), alpha)
    return canvas.claim(at, body, COMPONENTS.index("spring"))


def paint_cable(canvas: Canvas, rng: np.random.Generator) -> Mask:
    """A loosely coiled cable in its compartment, a plug at one end, a ring terminal at the other."""
    path = _run(rng)
    mask = np.zeros_like(canvas.components, np.bool_)
    for start in range(0, len(path) - 1, _PIECE):
        mask |= _jacket(canvas, path[max(0, start - 4) : start + _PIECE + 1], joined=start > 0)
    mask |= _plug(canvas, _end(path[:8][::-1]))
    mask |= _terminal(canvas, _end(path[-8:]))
    canvas.components[mask] = COMPONENTS.index("cable")
    return mask


def _strands(pose: Pose, sag: float, front: bool) -> list[Path]:
    """The half turns of the helix that face the camera, or those that face away."""
    start = 0.0 if front else math.pi
    strands = []
    for turn in range(_TURNS):
        t = 2 * math.pi * turn + start + np.linspace(0, math.pi, 15)
        along = _SPRING_LENGTH * (t / (2 * math.pi * _TURNS) - 0.5)
        across = _COIL_RADIUS * np.cos(t) + sag * along * along
        along = along - 2 * sag * along * _COIL_RADIUS * np.cos(t)
        strands.append(placed(pose, along, across))
    return strands


def _run(rng: np.random.Generator) -> Path:
    """A spiral of about two and a half turns, never twice the same."""
    x, y = CABLE.centre
    turns = float(rng.uniform(2.2, 2.8))
    angle = float(rng.uniform(0, 2 * math.pi)) + np.linspace(0, 2 * math.pi * turns, 130) * float(rng.choice([-1, 1]))
    share = np.linspace(0, 1, 130)
    wobble = [float(rng.uniform(0, 2 * math.pi)) for _ in range(3)]
    swing = 1 + 0.10 * np.sin(2.3 * angle + wobble[0]) + 0.07 * np.sin(1.37 * angle + wobble[1])
    shrink = 1 - float(rng.uniform(0.25, 0.5)) * np.sin(math.pi * (share * 0.9 + 0.05 * wobble[2] / 6))
    along = np.clip(84 * shrink * swing * np.cos(angle) + float(rng.uniform(-16, 16)), -108, 108)
    across = np.clip(45 * shrink * swing * np.sin(angle) + float(rng.uniform(-6, 6)), -56, 56)
    return np.stack([x + along, y + across], axis=1)


def _jacket(canvas: Canvas, piece: Path, joined: bool) -> Mask:
    low, high = piece.min(axis=0), piece.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    at = window(float(middle[0]), float(middle[1]), 0.0, float(half[0]) + 6, float(half[1]) + 6)
    distance = distance_to(at, [piece])
    jacket = inside(distance - _JACKET_RADIUS)
    alpha = jacket * _past(at, piece[0:3], 20) if joined else jacket
    casting = jacket * _past(at, piece[3:6], 50) if joined else jacket
    canvas.shadow(at, casting, 8)
    surface = normals(dome(distance, _JACKET_RADIUS + 0.3))
    return canvas.put(at, plastic(surface, tint((0.030, 0.085, 0.24)), canvas.light, 0.5, 5), alpha)


def _past(at: Window, around: Path, reach: float) -> Plane:
    """0 on the start of a piece, up to the second of three of its points: it continues the piece before unseen."""
    x, y = float(around[1, 0]), float(around[1, 1])
    dx = at.u + (at.columns.start - float(at.u[0, 0]) - x)
    dy = at.v + (at.rows.start - float(at.v[0, 0]) - y)
    ahead = dx * math.cos(heading(around)) + dy * math.sin(heading(around))
    return np.where(dx * dx + dy * dy < reach * reach, inside(-ahead), 1).astype(np.float32)


def _end(last: Path) -> Pose:
    """Where and in which direction a path ends."""
    return Pose(float(last[-1, 0]), float(last[-1, 1]), heading(last))


def _plug(canvas: Canvas, pose: Pose) -> Mask:
    """A white nylon housing with three contact slots."""
    at = window(pose.x, pose.y, pose.angle, 14, 11)
    shape = box(at.u - 2, at.v, 12.5, 9.5, 2.5)
    slots = sum(inside(box(at.u - 5, at.v - offset, 5.5, 1.5, 0.8)) for offset in (-5.4, 0.0, 5.4))
    canvas.shadow(at, inside(shape), 9)
    surface = normals(np.asarray(7 * smoothstep(-shape, -0.5, 4) - 3 * slots, np.float32))
    albedo = tint((0.66, 0.65, 0.60)) * (1 - 0.75 * slots)
    return canvas.put(at, plastic(surface, albedo, canvas.light, 0.10), inside(shape))


def _terminal(canvas: Canvas, pose: Pose) -> Mask:
    """A crimped ring terminal of tinned copper with a red sleeve."""
    at = window(pose.x, pose.y, pose.angle, 24, 12)
    eye = np.hypot(at.u - 16, at.v)
    tongue = np.maximum(np.maximum(4.2 - eye, eye - 9.5) * (at.u > 5), -1e3)
    flat = np.minimum(np.where(at.u > 5, tongue, 1e3), box(at.u - 3, at.v, 6, 4, 1)).astype(np.float32)
    sleeve = box(at.u + 5, at.v, 9, 6.3, 2)
    canvas.shadow(at, np.maximum(inside(flat), inside(sleeve)), 5)
    steel = metal(normals(np.asarray(2 * smoothstep(-flat, -0.5, 2), np.float32)), canvas.light, (1.0, 0.9, 0.72), 0.3)
    mask = canvas.put(at, steel, inside(flat))
    surface = normals(dome(at.v, 7.0) - 1.5 * bump(at.u + 5, 3))
    return mask | canvas.put(at, plastic(surface, tint((0.34, 0.025, 0.02)), canvas.light, 0.3), inside(sleeve))
