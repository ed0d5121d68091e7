"""The printed card in its compartment: how it lies and how the light falls on it. What is printed is in card.py."""

import math

import cv2
import numpy as np

from inspector.sample.canvas import Canvas
from inspector.sample.card import HALF_LENGTH, HALF_WIDTH, printed_card
from inspector.sample.plane import Mask, Plane, Window, box, inside, window
from inspector.sample.scene import COMPONENTS, Label, Pose
from inspector.sample.shading import diffuse, normals, tint


def paint_label(canvas: Canvas, label: Label, rng: np.random.Generator) -> Mask:
    """Returns the card's silhouette."""
    at = window(label.pose.x, label.pose.y, label.pose.angle, HALF_LENGTH, HALF_WIDTH)
    edge = box(at.u, at.v, HALF_LENGTH, HALF_WIDTH, 5)
    alpha = inside(edge)
    curl = float(rng.uniform(0.5, 1.6)) * np.square(at.u / HALF_LENGTH) + float(rng.uniform(-6, 6)) * at.v / 400
    canvas.shadow(at, alpha, 3.5)
    ink = _printed(printed_card(label.flavour, int(rng.integers(4))), at, label.pose)
    light = diffuse(normals(np.asarray(6 * curl, np.float32)), canvas.light) * (0.72 + 0.28 * inside(edge + 1.5, 1.2))
    colour = ink * light * (0.82 * tint(canvas.light.colour))
    return canvas.put(at, np.asarray(colour, np.float32), alpha, COMPONENTS.index("label"))


def flavour_region(label: Label) -> Mask:
    """(512, 640) the parts of the card that name the flavour: its band and its icon."""
    at = window(label.pose.x, label.pose.y, label.pose.angle, HALF_LENGTH, HALF_WIDTH)
    band = box(at.u, at.v + HALF_WIDTH - 13, HALF_LENGTH, 13, 1) < 0
    icon = np.hypot(at.u + 46, at.v - 13) < 25
    mask = np.zeros((512, 640), np.bool_)
    mask[at.rows, at.columns] = band | icon
    return mask


def _printed(card: Plane, at: Window, pose: Pose) -> Plane:
    """The card's print as seen at its pose."""
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    dx, dy = pose.x - at.columns.start, pose.y - at.rows.start
    # canvas -> card: turn back, then move the card's centre to the middle of its 2x print
    back = np.array([[2 * cos, 2 * sin, 0], [-2 * sin, 2 * cos, 0]])
    back[:, 2] = np.array([2 * HALF_LENGTH, 2 * HALF_WIDTH]) - back[:, :2] @ np.array([dx, dy])
    height, width = at.u.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    print_ = cv2.warpAffine(card, back, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(print_.transpose(2, 0, 1), np.float32)
