"""Surface damage and dirt, painted over the finished picture. Each returns the (512, 640) pixels that it touched."""

import math

import cv2
import numpy as np

from inspector.sample.canvas import Canvas
from inspector.sample.painting import Painting
from inspector.sample.path import Path, around, distance_to, placed, wander
from inspector.sample.plane import HEIGHT, WIDTH, Mask, Plane, Window, blur, bump, dome, inside, smoothstep, window
from inspector.sample.scene import COMPONENTS, Pose
from inspector.sample.shading import RGB, diffuse, gloss, normals, tint


def scratched_tray(painting: Painting, rng: np.random.Generator) -> Mask:
    """A deep scratch, or a pair of them, that turns the dark plastic pale."""
    canvas = painting.canvas
    pose = _free_spot(canvas, rng, 16)
    paths = [wander(rng, pose, float(rng.uniform(60, 120)), 0.25)]
    if rng.random() < 0.5:
        paths.append(paths[0][8:30] + rng.uniform(3, 6, 2))
    return _scratch(canvas, paths, float(rng.uniform(1.1, 1.8)), (0.52, 0.53, 0.55), "tray")


def scratched_label(painting: Painting, rng: np.random.Generator) -> Mask:
    """Scuffs through the card's print down to the grey of the board."""
    label = painting.scene.label
    if label is None:
        raise ValueError("a scene without a label has none to scratch")
    offset_x, offset_y = rng.uniform(-28, 28), rng.uniform(-14, 14)
    pose = Pose(label.pose.x + offset_x, label.pose.y + offset_y, rng.uniform(-0.9, 0.9))
    first = wander(rng, pose, float(rng.uniform(40, 75)), 0.2)
    paths = [first] + [first[4:34] + rng.uniform(-7, 7, 2) for _ in range(int(rng.integers(1, 3)))]
    return _scratch(painting.canvas, paths, float(rng.uniform(1.0, 1.6)), (0.30, 0.28, 0.24), "label")


def dented_tray(painting: Painting, rng: np.random.Generator) -> Mask:
    """A knock that pressed a hollow into the tray."""
    canvas = painting.canvas
    pose = _free_spot(canvas, rng, 17)
    at = window(pose.x, pose.y, pose.angle, 30, 24)
    radius = float(rng.uniform(12, 17))
    ragged = 1 + 0.06 * np.sin(3 * np.arctan2(at.v, at.u) + pose.angle)
    r = np.sqrt(np.square(at.u / 1.25) + np.square(at.v)) * ragged / radius
    hollow = 0.85 * radius * (0.30 * bump(r - 1.05, 0.25) - (1 - smoothstep(r, 0.1, 1.0)))
    _relief(canvas, at, np.asarray(hollow, np.float32))
    return canvas.claim(at, np.asarray(r < 1.25, np.float32), 0)


def contamination(painting: Painting, rng: np.random.Generator) -> Mask:
    """A crumb of dirt, or a drop of water, anywhere on the assembly."""
    pose = Pose(float(rng.uniform(70, 570)), float(rng.uniform(60, 450)), float(rng.uniform(0, 6)))
    at = window(pose.x, pose.y, pose.angle, 22, 22)
    angle, phase = np.arctan2(at.v, at.u), float(rng.uniform(0, 6))
    ragged = 1 + 0.13 * np.sin(2 * angle + phase) + 0.09 * np.sin(3 * angle + 2 * phase) + 0.05 * np.sin(7 * angle)
    edge = np.asarray(np.hypot(at.u, at.v * 1.2) * ragged - float(rng.uniform(10, 15)), np.float32)
    return _drop(painting.canvas, at, edge) if rng.random() < 0.4 else _crumb(painting.canvas, at, edge)


def fibre(painting: Painting, rng: np.random.Generator) -> Mask:
    """A hair or a thread lying across the assembly."""
    canvas = painting.canvas
    pose = Pose(float(rng.uniform(110, 530)), float(rng.uniform(90, 420)), float(rng.uniform(0, 6)))
    path = wander(rng, pose, float(rng.uniform(80, 150)), 2.6)
    at = around([path], 4)
    distance = distance_to(at, [path])
    radius = float(rng.uniform(0.9, 1.4))
    canvas.shadow(at, inside(distance - radius), 3, 0.6)
    shades: tuple[RGB, ...] = ((0.62, 0.60, 0.52), (0.30, 0.07, 0.05), (0.55, 0.56, 0.60))
    colour = tint(shades[int(rng.integers(len(shades)))]) * tint(canvas.light.colour)
    canvas.put(at, colour * (0.6 + 0.5 * dome(distance, radius + 0.5)), inside(distance - radius, 0.6))
    return _touched(at, distance < radius + 1.5)


def cracked_vial(painting: Painting, rng: np.random.Generator) -> Mask:
    """A branching crack in the glass."""
    vial, canvas = painting.scene.vial, painting.canvas
    start = float(rng.uniform(-105, 20))
    root = placed(vial.pose, np.array([start]), np.array([float(rng.uniform(-16, 16))]))[0]
    direction = float(rng.uniform(0, 2 * math.pi))
    paths = [_crack(rng, root, direction + turn, float(rng.uniform(22, 40))) for turn in (0.0, 2.2, 4.0)]
    paths.append(_crack(rng, paths[0][4], direction + 0.8, 16))
    at = around(paths, 4)
    glass = painting.vial[at.rows, at.columns]
    distance = distance_to(at, paths)
    lit = bump(distance - 0.3, 0.9) * glass
    canvas.under(at)[:] *= 1 - 0.55 * bump(distance - 2.0, 1.3) * glass
    canvas.under(at)[:] += 0.75 * lit * tint(canvas.light.colour)
    return _touched(at, (distance < 3.0) & glass)


def _free_spot(canvas: Canvas, rng: np.random.Generator, clearance: float) -> Pose:
    """A random place of the tray with no part within `clearance` pixels."""
    empty = np.zeros((HEIGHT, WIDTH), np.uint8)
    empty[34:-34, 36:-36] = canvas.components[34:-34, 36:-36] == 0
    free = np.flatnonzero(cv2.distanceTransform(empty, cv2.DIST_L2, 3) > clearance)
    y, x = divmod(int(rng.choice(free)), WIDTH)
    return Pose(float(x), float(y), float(rng.uniform(-math.pi, math.pi)))


def _scratch(canvas: Canvas, paths: list[Path], width: float, shade: RGB, component: str) -> Mask:
    """A furrow with a raised, light-catching lip on one side and a dark one on the other."""
    at = around(paths, 5)
    distance = distance_to(at, paths)
    scratched = canvas.components[at.rows, at.columns] == COMPONENTS.index(component)
    depth = np.clip(0.55 + 1.8 * blur((distance < 1).astype(np.float32), 4), 0, 1) * scratched
    canvas.under(at)[:] *= 1 - 0.45 * bump(distance - width - 0.8, 1.0) * depth
    canvas.put(at, tint(shade) * tint(canvas.light.colour), inside(distance - width / 2, 0.8) * depth)
    _relief(canvas, at, -0.7 * bump(distance, width) * scratched)
    return _touched(at, (distance < width + 1.5) & scratched)


def _relief(canvas: Canvas, at: Window, height: Plane) -> None:
    """Shade what is there as if its surface had this height."""
    surface, flat = normals(height), normals(np.zeros_like(height))
    canvas.under(at)[:] *= diffuse(surface, canvas.light) / diffuse(flat, canvas.light)
    glint = gloss(surface, canvas.light, 3) - gloss(flat, canvas.light, 3)
    canvas.under(at)[:] += 0.26 * np.maximum(glint, 0)


def _crumb(canvas: Canvas, at: Window, edge: Plane) -> Mask:
    cover = inside(edge, 1.4) * 0.9
    surface = normals(4.5 * smoothstep(-edge, -1, 8))
    colour = tint((0.055, 0.032, 0.014)) * diffuse(surface, canvas.light) + 0.4 * gloss(surface, canvas.light, 5)
    return canvas.put(at, np.asarray(colour * tint(canvas.light.colour), np.float32), cover)


def _drop(canvas: Canvas, at: Window, edge: Plane) -> Mask:
    """Water: dark at its rim, bright opposite the lamp, with the lamp mirrored in it."""
    cover = inside(edge, 0.9)
    surface = normals(9.0 * smoothstep(-edge, -1, 11))
    x, y, _ = canvas.light.direction
    focused = np.maximum(-(surface.x * x + surface.y * y), 0) * 1.5
    colour = canvas.under(at) * (0.60 + 2.0 * focused - 0.5 * bump(edge, 2)) + 0.10 * focused
    colour = colour + 1.6 * gloss(surface, canvas.light, 6)
    canvas.shadow(at, cover, 4, 0.8)
    return canvas.put(at, np.asarray(colour, np.float32), cover)


def _crack(rng: np.random.Generator, root: Path, direction: float, length: float) -> Path:
    """A jagged line from a root."""
    turns = direction + rng.normal(0, 0.42, 8)
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / 8)
    return np.concatenate([root[None], root + np.cumsum(steps, axis=0)])


def _touched(at: Window, pixels: Mask) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[at.rows, at.columns] = pixels
    return mask
