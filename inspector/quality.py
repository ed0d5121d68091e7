"""Is a picture fit to learn from: sharp, neither dark nor glaring? Pure; knows no camera."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from inspector.inspection import Image

DARK, BRIGHT = 5, 250  # grey levels at and beyond which a pixel says nothing
MOST_CLIPPED = 0.05  # share of such pixels
DIM = 30.0  # mean grey level
BLURRED = 0.5  # of the usual sharpness
USUAL_OF = 25  # pictures whose median sharpness is the usual one
LEAST_FOR_USUAL = 5
UNCHANGED = 1.0  # mean grey levels between two pictures of the same thing


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one picture."""

    sharpness: float  # variance of the Laplacian (Pech-Pacheco et al. 2000); compare it on one product only
    mean: float  # grey level, 0..255
    dark: float  # share of pixels
    bright: float

    @property
    def advice(self) -> str:
        """What to do about the exposure; empty when it is fine."""
        if self.bright > MOST_CLIPPED:
            return f"{self.bright:.0%} of the pixels glare: shorten ExposureTime, or dim the light"
        if self.mean < DIM:
            return "dark: lengthen ExposureTime, open the iris, or add light"
        return ""


def quality_of(image: Image) -> Quality:
    """Judge a picture (H, W, C)."""
    grey = _grey(image)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return Quality(sharpness, float(grey.mean()), float((grey <= DARK).mean()), float((grey >= BRIGHT).mean()))


class Screening:
    """Decides which pictures are worth keeping: sharp as usual, and not the one before once more."""

    def __init__(self) -> None:
        self._sharpness: deque[float] = deque(maxlen=USUAL_OF)
        self._last: Image | None = None

    def objection(self, image: Image, quality: Quality) -> str:
        """Why the picture is not worth keeping; empty when it is, and then it counts for the next ones."""
        thumbnail = np.asarray(cv2.resize(_grey(image), (64, 64), interpolation=cv2.INTER_AREA), np.uint8)
        if self._last is not None and np.abs(thumbnail.astype(float) - self._last).mean() < UNCHANGED:
            return "unchanged: the same part as before"
        usual = float(np.median(self._sharpness)) if len(self._sharpness) >= LEAST_FOR_USUAL else 0.0
        if quality.sharpness < BLURRED * usual:
            return f"blurred: sharpness {quality.sharpness:.0f} where {usual:.0f} is usual"
        self._sharpness.append(quality.sharpness)
        self._last = thumbnail
        return ""


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) if image.shape[2] == 3 else image[:, :, 0]
