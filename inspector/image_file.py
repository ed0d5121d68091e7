"""An image file becomes the pixels that the network takes: uint8, grey or RGB. Knows no camera or bundle."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from inspector.inspection import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


class ImageFileError(Exception):
    """The file is no image that can be inspected; the text names it and says why."""


def read_image(path: Path, bit_depth: int = 8) -> Image:
    """Read (H, W, C) uint8, C = 1 grey or 3 RGB; 16-bit samples of bit_depth bits are shifted down to 8.

    Alpha is dropped and a rotation noted in the file ignored, exactly as `models.data` does for training.

    Raises:
        ImageFileError: the file cannot be opened or decoded.
    """
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be opened ({error.strerror})") from error
    except cv2.error as error:
        raise ImageFileError(f"{path}: cannot be decoded ({error.err})") from error
    if pixels is None:
        raise ImageFileError(f"{path}: is damaged, cut short or no image")
    return _to_uint8(_grey_or_rgb(pixels, path), bit_depth, path)


def _grey_or_rgb(pixels: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    if pixels.ndim == 2:
        return pixels[:, :, np.newaxis]
    if pixels.shape[2] not in {1, 3, 4}:
        raise ImageFileError(f"{path}: has {pixels.shape[2]} channels, not grey or RGB")
    return pixels if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[:, :, 2::-1])


def _to_uint8(pixels: npt.NDArray[np.generic], bit_depth: int, path: Path) -> Image:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    if pixels.dtype != np.uint16:
        raise ImageFileError(f"{path}: has {pixels.dtype} samples, not 8 or 16 bit unsigned ones")
    shifted = np.right_shift(pixels.astype(np.uint16, copy=False), max(bit_depth - 8, 0))
    return np.minimum(shifted, 255).astype(np.uint8)
