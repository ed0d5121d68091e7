"""Small numeric words of the renderer: float planes, a part's own coordinates on the canvas, soft edges, blur."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating]  # float32 (h, w), or (3, h, w) linear RGB: plane by plane paints faster
Mask = npt.NDArray[np.bool_]  # (h, w)

WIDTH, HEIGHT = 640, 512


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A rectangle of the canvas with the coordinates of one part in it: u along its axis, v across, in pixels."""

    rows: slice
    columns: slice
    u: Plane
    v: Plane


def window(x: float, y: float, angle: float, half_length: float, half_width: float, *, margin: float = 3.0) -> Window:
    """The part of the canvas that a rectangle of this size, turned by `angle` radians, covers."""
    cos, sin = math.cos(angle), math.sin(angle)
    reach_x = abs(cos) * half_length + abs(sin) * half_width + margin
    reach_y = abs(sin) * half_length + abs(cos) * half_width + margin
    rows = slice(max(0, int(y - reach_y)), min(HEIGHT, int(y + reach_y) + 1))
    columns = slice(max(0, int(x - reach_x)), min(WIDTH, int(x + reach_x) + 1))
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - y)[:, None]
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - x)[None, :]
    return Window(rows, columns, dx * cos + dy * sin, dy * cos - dx * sin)


def inside(distance: Plane, softness: float = 0.7) -> Plane:
    """1 where a signed distance (pixels, negative within) is within, falling to 0 over the edge."""
    share: Plane = np.clip(0.5 - distance / (2 * softness), 0, 1)
    return share


def bump(x: Plane, width: float) -> Plane:
    """exp(-(x / width)^2)."""
    scaled = x / width
    return np.exp(-scaled * scaled)


def smoothstep(x: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between."""
    t: Plane = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def dome(offset: Plane, radius: Plane | float) -> Plane:
    """Height of a round bar of this radius at this distance from its axis; 0 beside it."""
    height: Plane = np.sqrt(np.maximum(radius * radius - offset * offset, 0))
    return height


def box(u: Plane, v: Plane, half_length: float, half_width: float, corner: float) -> Plane:
    """Signed distance to a rectangle with round corners."""
    du, dv = np.abs(u) - (half_length - corner), np.abs(v) - (half_width - corner)
    far_u, far_v = np.maximum(du, 0), np.maximum(dv, 0)
    distance: Plane = np.sqrt(far_u * far_u + far_v * far_v) + np.minimum(np.maximum(du, dv), 0) - corner
    return distance


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur; sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)


def resized(plane: Plane, height: int, width: int) -> Plane:
    """The plane at another size, interpolated."""
    return np.asarray(cv2.resize(plane, (width, height)), np.float32)


def shifted(plane: Plane, dx: float, dy: float) -> Plane:
    """The plane moved by a few pixels, zeros coming in."""
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    height, width = plane.shape[:2]
    return np.asarray(cv2.warpAffine(plane, move, (width, height)), np.float32)
