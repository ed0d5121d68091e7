"""What is printed on the card: a colour band, an icon, text and a bar code. Colour and icon name a flavour."""

import math
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from inspector.sample.plane import Plane, blur
from inspector.sample.scene import Flavour

HALF_LENGTH, HALF_WIDTH = 76.0, 49.0  # canvas pixels

Point = tuple[float, float]
Ink = tuple[int, int, int]  # sRGB

_DOTS = 6  # printed a canvas pixel
_BOARD: Ink = (238, 236, 228)
_WHITE: Ink = (250, 250, 246)
_BLACK: Ink = (36, 38, 46)
_GREY: Ink = (120, 122, 128)
_LEAF: Ink = (48, 150, 70)
_BAND: dict[Flavour, Ink] = {"lemon": (240, 196, 30), "cherry": (200, 30, 52), "mint": (36, 160, 98)}


@cache
def printed_card(flavour: Flavour, lot: int) -> Plane:
    """(4 half widths, 4 half lengths, 3) linear reflectance, two dots a canvas pixel."""
    press = _Press()
    press.bar((0, 0), (152, 26), _BAND[flavour])
    press.text(flavour.upper(), (10, 19.5), 0.62, _WHITE)
    press.text("20 ml", (112, 18), 0.40, _WHITE)
    _ICONS[flavour](press)
    press.text("FLAVOUR CONCENTRATE", (60, 38), 0.21, _BLACK)
    for line, width in enumerate((82, 76, 80, 58)):
        _words(press, (60, 43 + 4.6 * line), width, seed=line)
    press.text(f"LOT 24{lot}7-{lot * 31 + 12:03d}", (60, 70), 0.24, _BLACK)
    _barcode(press, (60, 74), 82, seed=7 + lot)
    return press.print()


class _Press:
    """A card being printed; places and sizes are in canvas pixels from its upper left corner."""

    def __init__(self) -> None:
        shape = int(2 * HALF_WIDTH) * _DOTS, int(2 * HALF_LENGTH) * _DOTS, 3
        self._card: npt.NDArray[np.uint8] = np.full(shape, _BOARD, np.uint8)

    def bar(self, corner: Point, size: Point, ink: Ink) -> None:
        opposite = corner[0] + size[0], corner[1] + size[1]
        cv2.rectangle(self._card, _dots(corner), _dots(opposite), ink, cv2.FILLED)

    def text(self, text: str, start: Point, size: float, ink: Ink) -> None:
        weight = max(1, round(3 * size * _DOTS))
        cv2.putText(self._card, text, _dots(start), cv2.FONT_HERSHEY_DUPLEX, size * _DOTS, ink, weight, cv2.LINE_AA)

    def spot(self, centre: Point, axes: Point, turn: float, ink: Ink) -> None:
        cv2.ellipse(self._card, _dots(centre), _dots(axes), turn, 0, 360, ink, cv2.FILLED, cv2.LINE_AA)

    def line(self, start: Point, end: Point, width: float, ink: Ink) -> None:
        cv2.line(self._card, _dots(start), _dots(end), ink, int(width * _DOTS), cv2.LINE_AA)

    def print(self) -> Plane:
        size = int(4 * HALF_LENGTH), int(4 * HALF_WIDTH)
        small = cv2.resize(self._card, size, interpolation=cv2.INTER_AREA)
        return blur(np.square(np.asarray(small, np.float32) / 255), 0.7)


def _dots(point: Point) -> tuple[int, int]:
    return int(point[0] * _DOTS), int(point[1] * _DOTS)


def _words(press: _Press, start: Point, width: float, *, seed: int) -> None:
    """A line of print too small to read."""
    rng = np.random.default_rng(seed)
    place = 0.0
    while place < width - 3:
        word = min(float(rng.uniform(4, 12)), width - place)
        press.bar((start[0] + place, start[1]), (word, 1.7), _GREY)
        place += word + 2


def _barcode(press: _Press, start: Point, width: float, *, seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = 0.0
    while place < width - 3:
        bar = float(rng.choice([0.8, 1.2, 2.0]))
        press.bar((start[0] + place, start[1]), (bar, 17), _BLACK)
        place += bar + float(rng.choice([0.9, 1.4, 2.2]))


def _leaf(press: _Press, centre: Point, size: float, turn: float) -> None:
    x, y = math.cos(math.radians(turn)) * size * 0.85, math.sin(math.radians(turn)) * size * 0.85
    press.spot(centre, (size, size * 0.46), turn, _LEAF)
    press.line((centre[0] - x, centre[1] - y), (centre[0] + x, centre[1] + y), 0.8, (190, 228, 190))


def _lemon(press: _Press) -> None:
    press.spot((30, 62), (20, 14), -25, (238, 200, 40))
    press.spot((48, 53.5), (5, 3.4), -25, (238, 200, 40))
    press.spot((24, 57.5), (6, 2.6), -35, (252, 236, 150))
    _leaf(press, (17, 47), 9, 40)


def _cherry(press: _Press) -> None:
    for x, y in ((21.0, 66.0), (40.0, 69.0)):
        press.line((x, y - 8), (33, 41), 1.4, (90, 110, 50))
        press.spot((x, y), (10.5, 10), 0, (190, 22, 44))
        press.spot((x - 3.5, y - 3.5), (2.6, 2), -30, (245, 170, 180))
    _leaf(press, (43, 43), 9, 15)


def _mint(press: _Press) -> None:
    for centre, size, turn in (((20.0, 64.0), 15.0, 35.0), ((41.0, 63.0), 15.0, -40.0), ((30.0, 51.0), 13.0, 90.0)):
        _leaf(press, centre, size, turn)


_ICONS = {"lemon": _lemon, "cherry": _cherry, "mint": _mint}
