"""Is a picture fit to learn from: sharp, neither dark nor glaring? Pure; knows no camera."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inspector.inspection import Image

DARK, BRIGHT = 5, 250  # grey levels at and beyond which a pixel says nothing
MOST_CLIPPED = 0.05  # share of such pixels
DIM = 30.0  # mean grey level
BLURRED = 0.5  # of the usual sharpness
USUAL_OF = 25  # pictures whose median sharpness is the usual one
LEAST_FOR_USUAL = 5
UNCHANGED = 3.0  # grey levels by which no sixteenth of the picture's sides differs: the same thing once more
JUDGED_SIDE = 1024  # pixels; a larger picture is judged scaled down


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
    grey = _small(_grey(image))
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return Quality(sharpness, float(grey.mean()), float((grey <= DARK).mean()), float((grey >= BRIGHT).mean()))


class Screening:
    """Decides which pictures are worth keeping: sharp as usual and, where parts may stand still, not seen before."""

    def __init__(self, *, parts_may_stand_still: bool) -> None:
        self._may_repeat = parts_may_stand_still
        self._sharpness: deque[float] = deque(maxlen=USUAL_OF)
        self._last: npt.NDArray[np.float64] | None = None

    def objection(self, image: Image, quality: Quality) -> str:
        """Why the picture is not worth keeping; empty when it is, and then it counts for the next ones."""
        cells = cv2.resize(_grey(image), (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)
        if self._may_repeat and self._last is not None and np.abs(cells - self._last).max() < UNCHANGED:
            return "unchanged: the same part as before"
        usual = float(np.median(self._sharpness)) if len(self._sharpness) >= LEAST_FOR_USUAL else 0.0
        if quality.sharpness < BLURRED * usual:
            return f"blurred: sharpness {quality.sharpness:.0f} where {usual:.0f} is usual"
        self._sharpness.append(quality.sharpness)
        self._last = cells
        return ""


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) if image.shape[2] == 3 else image[:, :, 0]


def _small(grey: Image) -> Image:
    scale = JUDGED_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
