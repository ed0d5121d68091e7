"""Lines on the canvas: where they run, how far every pixel is from them."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from inspector.sample.plane import Plane, Window, window
from inspector.sample.scene import Pose

Numbers = npt.NDArray[np.float64]
Path = Numbers  # (n, 2) canvas pixels

_FINE = 2  # sub-pixels a side


def placed(pose: Pose, along: Numbers, across: Numbers) -> Path:
    """A line given in a part's own coordinates, on the canvas."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    return np.stack([pose.x + along * cos - across * sin, pose.y + along * sin + across * cos], axis=1)


def heading(path: Path) -> float:
    """The direction from a path's first point to its last, radians."""
    along, across = path[-1] - path[0]
    return math.atan2(across, along)


def wander(rng: np.random.Generator, pose: Pose, length: float, restless: float) -> Path:
    """(40, 2) a line about `length` pixels long, centred on the pose, whose direction drifts by `restless` radians."""
    step = length / 39
    turns = np.cumsum(rng.normal(0, restless / math.sqrt(39), 39))
    run = np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0)
    run = np.concatenate([np.zeros((1, 2)), run])
    run -= run.mean(axis=0)
    return placed(pose, run[:, 0], run[:, 1])


def around(paths: Sequence[Path], reach: float, margin: float = 4.0) -> Window:
    """The window that holds these paths and what lies within `reach` of them."""
    points = np.concatenate(list(paths))
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    half_x, half_y = (high - low) / 2 + reach
    return window(float(x), float(y), 0.0, float(half_x), float(half_y), margin=margin)


def distance_to(at: Window, paths: Sequence[Path]) -> Plane:
    """(h, w) pixels to the nearest of the paths."""
    height, width = at.u.shape
    ink = np.full((height * _FINE, width * _FINE), 255, np.uint8)
    origin = np.array([at.columns.start, at.rows.start])
    lines = [np.round(((path - origin + 0.5) * _FINE - 0.5) * 16).astype(np.int32) for path in paths]
    cv2.polylines(ink, lines, isClosed=False, color=0, thickness=1, lineType=cv2.LINE_8, shift=4)
    fine = cv2.distanceTransform(ink, cv2.DIST_L2, 5)
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32) / _FINE
