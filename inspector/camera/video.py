"""A video file or an ordinary USB camera through OpenCV: to try things at a desk, without a trigger."""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Self

import cv2
import numpy as np

from inspector.camera import IDLE_S, CameraError, Event, Outage, idle_until
from inspector.inspection import Frame, Image
from inspector.station import VideoCamera

REOPEN_S = 1.0  # between two attempts to find a USB camera again

log = logging.getLogger(__name__)


class VideoFeed:
    """Frames called NAME-000000 and so on.

    A file ends, or starts again. A USB camera that is unplugged is away until it is plugged in again.
    """

    def __init__(
        self,
        config: VideoCamera,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        open_video: Callable[[str | int], cv2.VideoCapture] = lambda source: cv2.VideoCapture(source),  # noqa: PLW0108
    ) -> None:
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._open_video = open_video
        self._video: cv2.VideoCapture | None = None
        self._name = config.file.stem if config.file else f"usb{config.device}"
        self._sequence = count()

    def __enter__(self) -> Self:
        self._video = self._open()
        if self._video is None:
            raise CameraError(self._missing())
        return self

    def __exit__(self, *exc: object) -> None:
        if self._video is not None:
            self._video.release()
        self._video = None

    def __iter__(self) -> Iterator[Event]:
        return self._live() if self._config.file is None else self._replay()

    def _replay(self) -> Iterator[Event]:
        due_ns = self._clock()
        while self._video is not None:
            read, pixels = self._video.read()
            if read:
                yield from idle_until(due_ns, self._clock, self._sleep)
                due_ns = max(due_ns, self._clock() - self._period_ns()) + self._period_ns()
                yield self._frame(pixels)
            elif not self._config.loop:
                return
            elif not self._video.set(cv2.CAP_PROP_POS_FRAMES, 0):
                raise CameraError(f"{self._config.file} cannot be started again: replay it without loop = true")

    def _live(self) -> Iterator[Event]:
        """At most `rate_hz` of the camera's frames; the others are read and dropped, so that none is an old one."""
        due_ns = self._clock()
        while True:
            read, pixels = self._video.read() if self._video is not None else (False, None)
            if not read or pixels is None:
                yield from self._reopen()
            elif self._clock() >= due_ns:
                due_ns = max(due_ns, self._clock() - self._period_ns()) + self._period_ns()
                yield self._frame(pixels)
            else:
                yield None

    def _reopen(self) -> Iterator[Event]:
        self.__exit__()
        log.error("%s", self._missing())
        until_ns = self._clock() + round(REOPEN_S * 1e9)
        while self._clock() < until_ns:
            yield Outage(self._missing())
            self._sleep(IDLE_S)
        self._video = self._open()

    def _frame(self, pixels: cv2.typing.MatLike) -> Frame:
        sequence = next(self._sequence)
        image: Image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
        return Frame(sequence, f"{self._name}-{sequence:06d}", image, self._clock())

    def _period_ns(self) -> int:
        rate_hz = self._config.rate_hz
        if rate_hz is None and self._config.file is not None and self._video is not None:
            rate_hz = self._video.get(cv2.CAP_PROP_FPS)
        return round(1e9 / rate_hz) if rate_hz else 0

    def _open(self) -> cv2.VideoCapture | None:
        source = self._config.device if self._config.file is None else str(self._config.file)
        video = self._open_video(source if source is not None else 0)
        return video if video.isOpened() else None

    def _missing(self) -> str:
        if self._config.file is not None:
            return f"{self._config.file} is no video that can be read: correct camera.file in station.toml"
        return f"USB camera {self._config.device} is not there: plug it in, or correct camera.device in station.toml"
