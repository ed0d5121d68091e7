"""Light on surfaces: height to normals, Lambert and Blinn-Phong for plastic, a reflected room for metal. Linear RGB."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from inspector.sample.plane import Plane, blur, smoothstep

RGB = tuple[float, float, float]
_ROOM_SIDE = 256


@dataclass(frozen=True, slots=True)
class Light:
    """A large lamp beside the camera; x right, y down, z towards the camera."""

    direction: RGB  # unit vector towards the lamp
    colour: RGB
    ambient: float

    @property
    def half(self) -> RGB:
        """The Blinn-Phong half vector for a camera straight above."""
        x, y, z = self.direction
        length = math.sqrt(x * x + y * y + (z + 1) * (z + 1))
        return x / length, y / length, (z + 1) / length


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """Unit surface normals, each (h, w)."""

    x: Plane
    y: Plane
    z: Plane


def random_light(rng: np.random.Generator) -> Light:
    """The station's lamp: nearly the same every time, with some drift in place, strength and warmth."""
    azimuth = math.radians(-128 + rng.normal(0, 7))
    elevation = math.radians(52 + rng.normal(0, 3))
    strength = 1.36 * (1 + rng.uniform(-0.08, 0.08))
    warmth = rng.normal(0, 0.022)
    flat = math.cos(elevation)
    direction = flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)
    return Light(direction, (strength * (1 + warmth), strength, strength * (1 - warmth)), 0.34)


def normals(height: Plane) -> Normals:
    """Surface normals of a height map, both in pixels."""
    gx = np.asarray(cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), np.float32)
    gy = np.asarray(cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125), np.float32)
    z = 1 / np.sqrt(1 + gx * gx + gy * gy)
    return Normals(-gx * z, -gy * z, z)


def diffuse(surface: Normals, light: Light) -> Plane:
    """(h, w) Lambert plus the sky above."""
    x, y, z = light.direction
    facing: Plane = np.maximum(surface.x * x + surface.y * y + surface.z * z, 0)
    return facing + light.ambient * (0.55 + 0.45 * surface.z)


def gloss(surface: Normals, light: Light, doublings: int) -> Plane:
    """(h, w) Blinn-Phong highlight with exponent 2 ** doublings."""
    x, y, z = light.half
    shine: Plane = np.maximum(surface.x * x + surface.y * y + surface.z * z, 0)
    for _ in range(doublings):
        shine *= shine
    return shine


def plastic(surface: Normals, albedo: Plane, light: Light, shine: float = 0.12, doublings: int = 5) -> Plane:
    """(3, h, w) a dielectric. The albedo is (3, h, w) or anything that broadcasts to it."""
    lit = diffuse(surface, light) * albedo
    return (lit + shine * gloss(surface, light, doublings)) * tint(light.colour)


def metal(surface: Normals, light: Light, colour: RGB, roughness: float = 0.0) -> Plane:
    """(3, h, w) polished or (roughness > 0) satin metal that mirrors the room."""
    shift = (light.direction[0] + 0.36) * 40, (light.direction[1] + 0.48) * 40
    across = surface.x * (_ROOM_SIDE / 2 - 1) + (_ROOM_SIDE / 2 - shift[0])
    down = surface.y * (_ROOM_SIDE / 2 - 1) + (_ROOM_SIDE / 2 - shift[1])
    mirrored = np.asarray(cv2.remap(_room(), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    mixed = (1 - roughness) * mirrored + roughness * 0.62 * diffuse(surface, light)
    return np.asarray(mixed * (tint(colour) * tint(light.colour)), np.float32)


def tint(colour: RGB) -> Plane:
    """A colour as (3, 1, 1) float32."""
    return np.array(colour, np.float32)[:, None, None]


@cache
def _room() -> Plane:
    """(256, 256) what a mirror with normal (x, y) sees: a lamp, a strip light, a bright ring, a dim hall."""
    axis = np.linspace(-1, 1, _ROOM_SIDE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    radius = np.sqrt(x * x + y * y)
    room = 0.16 + 0.16 * smoothstep(-y - 0.4 * x, -0.7, 0.7)
    lamp = (1 - smoothstep(np.abs(x + 0.30), 0.16, 0.26)) * (1 - smoothstep(np.abs(y + 0.38), 0.14, 0.24))
    strip = (1 - smoothstep(np.abs(0.7 * x + 0.7 * y - 0.55), 0.03, 0.10)) * (1 - smoothstep(np.abs(x - y), 0.5, 0.9))
    above = 0.26 * (1 - smoothstep(radius, 0.05, 0.30))  # the camera's surroundings, mirrored by what lies flat
    room = room + 1.45 * lamp + 0.55 * strip + above
    return blur(np.asarray(room * (1 - 0.75 * smoothstep(radius, 0.80, 1.0)), np.float32), 3)
