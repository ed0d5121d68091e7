"""Draws what the report shows: images, anomaly maps over them, the score histogram; as data URIs. Writes no file."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from models.data import Image
from models.ground_truth import Mask

LONGEST_SIDE = 420  # pixels
GOOD_COLOUR, ANOMALOUS_COLOUR, INK = "#4a7fa7", "#c8643c", "#3a4149"
_CONTOUR_BGR = (90, 220, 60)

Picture = npt.NDArray[np.uint8]  # (h, w, 3) BGR, as OpenCV draws


def image_with_contour(image: Image, marked: Mask) -> str:
    """The image as a data URI, the ground truth outlined in green."""
    picture = _picture(image)
    height, width = picture.shape[:2]
    mask = cv2.resize(marked.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _CONTOUR_BGR, 2, cv2.LINE_AA)
    return _jpeg_uri(picture)


def heat_over_image(image: Image, anomaly_map: npt.NDArray[np.float32], low: float, high: float) -> str:
    """The anomaly map over the greyed image as a data URI; clear at low, full at high."""
    picture = _picture(image)
    height, width = picture.shape[:2]
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA)[:, :, np.newaxis]
    colours = cv2.applyColorMap((80 + 175 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)  # without its blacks
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    share = 0.85 * np.sqrt(heat)
    return _jpeg_uri((colours * share + grey * (1 - share)).astype(np.uint8))


def score_histogram(good: Sequence[float], anomalous: Sequence[float], threshold: float) -> str:
    """How many images got which score, good against anomalous, with the threshold; an SVG data URI."""
    figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    axes = figure.subplots()
    edges = np.histogram_bin_edges([*good, *anomalous, threshold], bins=40).tolist()
    for scores, colour, label in ((good, GOOD_COLOUR, "good"), (anomalous, ANOMALOUS_COLOUR, "anomalous")):
        axes.hist(scores, edges, color=colour, alpha=0.75, label=f"{label} ({len(scores)})")
    axes.axvline(threshold, color=INK, linewidth=1.3, linestyle="--", label=f"threshold {threshold:.4g}")
    axes.set_xlabel("image score (higher = more anomalous)", color=INK)
    axes.set_ylabel("images", color=INK)
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, labelcolor=INK)
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _picture(image: Image) -> Picture:
    """8-bit BGR, no larger than the report needs; deeper images are stretched to their brightest pixel."""
    scale = 1.0 if image.dtype == np.uint8 else 255 / max(int(image.max()), 1)
    shrink = min(LONGEST_SIDE / max(image.shape[:2]), 1.0)
    size = (max(round(image.shape[1] * shrink), 1), max(round(image.shape[0] * shrink), 1))
    small = cv2.resize((image * scale).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    colour = cv2.COLOR_GRAY2BGR if image.shape[2] == 1 else cv2.COLOR_RGB2BGR
    return cv2.cvtColor(small, colour).astype(np.uint8)


def _jpeg_uri(picture: Picture) -> str:
    return _uri("image/jpeg", cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
