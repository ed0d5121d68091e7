"""The world in front of the simulated GenICam camera: parts pass at a line's pace, each breaking a light barrier."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from inspector.camera import CameraError
from inspector.camera.gentl.stage import Stage
from inspector.image_file import SUFFIXES, read_image
from inspector.inspection import Image

POLL_S = 0.002  # how soon it is noticed that a part was exposed

SNIPPET = """\
[camera]
kind = "genicam"
producer = "simulator"
serial = "{serial}"
trigger = "hardware"
"""


def pass_by(
    stage: Stage,
    pictures: Iterable[Image],
    *,
    rate_hz: float,
    stop: Callable[[], bool] = lambda: False,
    permit: Callable[[], bool] = lambda: True,
) -> int:
    """Bring one part after the other under the camera and pulse its trigger line, until each was exposed.

    A camera that is not ready misses the pulse; the part then waits for the next one, so that pictures and frames keep
    the same order. A camera in free run takes the part at its own next frame.

    Args:
        stage: the camera's.
        pictures: of the parts.
        rate_hz: pulses a second.
        stop: asked all the time; true ends the line.
        permit: asked before each part, until it says true.

    Returns:
        how many parts were exposed.
    """
    period_s, due, exposed = 1 / rate_hz, time.monotonic(), 0
    for picture in pictures:
        while not permit() and not stop():
            time.sleep(POLL_S)
        if stop():
            break
        stage.show(picture, timeout_s=1.0)  # there is room: no other picture waits
        while stage.waiting and not stop():
            _sleep_until(due, stop)
            stage.pulse()
            due = max(due, time.monotonic() - period_s) + period_s
            _sleep_until(due, lambda: not stage.waiting or stop())
        exposed += not stage.waiting
    return exposed


def pictures_in(folder: Path) -> Iterator[Image]:
    """The images in a folder and those under it, sorted, for ever, all as large as the first and grey or RGB as it is.

    Raises:
        CameraError: there are none.
        ImageFileError: one cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise CameraError(f"{folder} holds no image: name a folder of pictures of parts")
    height, width, channels = read_image(files[0]).shape
    for file in cycle(files):
        image = read_image(file)
        if image.shape[2] != channels:
            to_channels = cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
            image = np.asarray(cv2.cvtColor(image, to_channels), np.uint8).reshape(*image.shape[:2], channels)
        yield np.asarray(cv2.resize(image, (width, height)), np.uint8).reshape(height, width, channels)


def _sleep_until(due: float, enough: Callable[[], bool]) -> None:
    while (left_s := due - time.monotonic()) > 0 and not enough():
        time.sleep(min(left_s, POLL_S))
