"""The picture while it is painted: linear colour and the component of every pixel. Knows no part."""

import numpy as np

from inspector.sample.plane import HEIGHT, WIDTH, Mask, Plane, Window, blur, resized, shifted
from inspector.sample.shading import Light

_ROOM = 24  # pixels that a shadow may reach beyond its part


class Canvas:
    """Holds (3, 512, 640) linear RGB and (512, 640) component numbers; parts are put on it from back to front."""

    def __init__(self, background: Plane, light: Light) -> None:
        self.colour = background
        self.light = light
        self.components = np.zeros((HEIGHT, WIDTH), np.uint8)

    def under(self, at: Window) -> Plane:
        """The colours below a part, as a view."""
        return self.colour[:, at.rows, at.columns]

    def shadow(self, at: Window, alpha: Plane, height: float, strength: float = 1.0) -> None:
        """Darken what lies below and around a part that stands `height` pixels high."""
        x, y, z = self.light.direction
        reach = 0.5 * height / z
        wide, around = _widened(at, alpha)
        coarse = resized(around, around.shape[0] // 2, around.shape[1] // 2)  # shadows are soft: half the size will do
        cast = blur(shifted(coarse, -x * reach, -y * reach), 0.6 + height / 14)
        contact = blur(coarse, 1.25 + height / 12)
        left: Plane = 1 - strength * np.clip(0.58 * cast + 0.42 * contact, 0, 0.86)
        self.colour[:, *wide] *= resized(left, *around.shape)

    def put(self, at: Window, colour: Plane, alpha: Plane, component: int = 0) -> Mask:
        """Paint a part; returns its silhouette as a (512, 640) mask. Component 0 leaves the component map alone."""
        below = self.under(at)
        below += (colour - below) * alpha
        return self.claim(at, alpha, component)

    def claim(self, at: Window, alpha: Plane, component: int) -> Mask:
        """Count these pixels to a component; returns them as a (512, 640) mask."""
        silhouette = np.zeros((HEIGHT, WIDTH), np.bool_)
        covered = alpha > 0.5
        silhouette[at.rows, at.columns] = covered
        if component:
            self.components[at.rows, at.columns][covered] = component
        return silhouette


def _widened(at: Window, alpha: Plane) -> tuple[tuple[slice, slice], Plane]:
    """The window with room for a shadow, as far as the canvas goes, and the coverage with zeros around it."""
    top, left = min(_ROOM, at.rows.start), min(_ROOM, at.columns.start)
    bottom, right = min(_ROOM, HEIGHT - at.rows.stop), min(_ROOM, WIDTH - at.columns.stop)
    rows = slice(at.rows.start - top, at.rows.stop + bottom)
    columns = slice(at.columns.start - left, at.columns.stop + right)
    return (rows, columns), np.pad(alpha, ((top, bottom), (left, right)))
