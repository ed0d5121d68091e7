"""A camera's buffer becomes an image: PFNC pixel formats to uint8, grey or RGB. Pure; knows no camera.

Names and bit layouts are those of the EMVA's Pixel Format Naming Convention 2.4; `Mono10Packed` and `Mono12Packed` are
GigE Vision's older ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from inspector.camera import CameraError
from inspector.inspection import Image

Bytes: TypeAlias = npt.NDArray[np.uint8]  # (n,)
Samples: TypeAlias = npt.NDArray[np.uint8]  # (n,), the upper eight bits of each
GROUP = {10: 5, 12: 3}  # bytes that hold a whole number of samples, by the bits of one


class PixelFormatError(CameraError):
    """The camera sends pixels that cannot be read, or fewer than it says; the text names the format."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How pixels lie in memory, and what they become."""

    bits: int  # that a pixel takes
    upper: Callable[[Bytes], Samples]  # memory of whole lines -> the upper eight bits of every sample
    colour: int | None = None  # OpenCV's conversion of the samples; None: they are grey or RGB already


def _whole(memory: Bytes) -> Samples:
    return memory


def _unpacked(depth: int) -> Callable[[Bytes], Samples]:
    """16-bit words that hold `depth` bits, little-endian."""

    def upper(memory: Bytes) -> Samples:
        return (memory.view("<u2") >> (depth - 8)).astype(np.uint8)

    return upper


def _packed_10(memory: Bytes) -> Samples:
    """Mono10p: four samples in five bytes, a stream of bits that begins with the lowest one."""
    groups = memory.reshape(-1, 5).astype(np.uint16)
    words = groups[:, :-1] | groups[:, 1:] << 8  # each sample lies within two neighbours
    return (words >> np.array([2, 4, 6, 8], np.uint16)).astype(np.uint8).ravel()


def _packed_12(memory: Bytes) -> Samples:
    """Mono12p: two samples in three bytes, a stream of bits that begins with the lowest one."""
    groups = memory.reshape(-1, 3)
    first = groups[:, 0] >> 4 | groups[:, 1] << 4
    return np.stack([first, groups[:, 2]], axis=1).ravel()


def _group_packed(memory: Bytes) -> Samples:
    """GigE Vision's packed formats: two samples in three bytes, the lower bits of both in the middle one."""
    return np.ascontiguousarray(memory.reshape(-1, 3)[:, ::2]).ravel()


# OpenCV names a pattern by the second line's second and third pixel, PFNC by the first line's first and second.
_BAYER = {
    "RG": cv2.COLOR_BayerBG2RGB,
    "GR": cv2.COLOR_BayerGB2RGB,
    "GB": cv2.COLOR_BayerGR2RGB,
    "BG": cv2.COLOR_BayerRG2RGB,
}
_SAMPLES: dict[str, tuple[int, Callable[[Bytes], Samples]]] = {
    "8": (8, _whole),
    "10": (16, _unpacked(10)),
    "12": (16, _unpacked(12)),
    "14": (16, _unpacked(14)),
    "16": (16, _unpacked(16)),
    "10p": (10, _packed_10),
    "12p": (12, _packed_12),
    "10Packed": (12, _group_packed),
    "12Packed": (12, _group_packed),
}
FORMATS: dict[str, PixelFormat] = {
    **{f"Mono{depth}": PixelFormat(bits, upper) for depth, (bits, upper) in _SAMPLES.items()},
    **{
        f"Bayer{pattern}{depth}": PixelFormat(bits, upper, conversion)
        for pattern, conversion in _BAYER.items()
        for depth, (bits, upper) in _SAMPLES.items()
        if depth != "14"  # there are none
    },
    "RGB8": PixelFormat(24, _whole),
    "BGR8": PixelFormat(24, _whole, cv2.COLOR_BGR2RGB),
    "RGBa8": PixelFormat(32, _whole, cv2.COLOR_RGBA2RGB),
    "BGRa8": PixelFormat(32, _whole, cv2.COLOR_BGRA2RGB),
}


def to_image(memory: bytes | memoryview, pixel_format: str, width: int, height: int, *, padding: int = 0) -> Image:
    """Read a buffer into (H, W, C) uint8, C = 1 grey or 3 RGB; samples of more than 8 bits are shifted down to 8.

    The image may share memory with the buffer: copy it before the buffer goes back to the camera.

    Args:
        memory: the buffer, with what follows the image in it.
        pixel_format: PFNC name.
        width: pixels.
        height: lines.
        padding: bytes after each line that are no pixels.

    Raises:
        PixelFormatError: the format is not one of `FORMATS`, or the buffer is shorter than the image.
    """
    layout = FORMATS.get(pixel_format)
    if layout is None:
        raise PixelFormatError(
            f"pixel format {pixel_format} cannot be read: set PixelFormat in [camera.features] of station.toml to "
            "Mono8, BayerRG8, RGB8 or another of its kind"
        )
    rows = _rows(np.frombuffer(memory, np.uint8), layout, width, height, padding)
    channels = layout.bits // 8 if layout.upper is _whole else 1
    samples = layout.upper(rows.ravel()).reshape(len(rows), -1)
    pixels = samples[:, : height // len(rows) * width * channels].reshape(height, width, channels)
    if layout.colour is None:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, layout.colour), np.uint8)


def _rows(memory: Bytes, layout: PixelFormat, width: int, height: int, padding: int) -> npt.NDArray[np.uint8]:
    """The image's bytes (n, whole groups): a row for each line where lines are padded, else one row of all lines.

    Lines of a packed format that are not padded follow each other within a byte.
    """
    if width < 1 or height < 1:
        raise PixelFormatError(f"the camera sent an image of {width} x {height} pixels")
    count = height if padding else 1
    row = -(-width * (height // count) * layout.bits // 8)
    if len(memory) < (row + padding) * count:
        raise PixelFormatError(
            f"the camera sent {len(memory)} bytes of {(row + padding) * count} for {width} x {height} pixels"
        )
    rows = memory[: (row + padding) * count].reshape(count, -1)[:, :row]
    short = -row % GROUP.get(layout.bits, 1)
    return np.pad(rows, ((0, 0), (0, short))) if short else rows
