"""A video file or an ordinary USB camera through OpenCV: to try things at a desk, without a trigger."""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from threading import Condition, Thread
from typing import Literal, Self

import cv2
import numpy as np

from inspector.camera import IDLE_S, CameraError, Event, Outage, Untriggered, idle_until
from inspector.camera.settings import VideoCamera
from inspector.inspection import Frame, Image

REOPEN_S = 1.0  # between two attempts to find a USB camera again

log = logging.getLogger(__name__)


class VideoFeed(Untriggered):
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
        due_ns, empty = self._clock(), True
        while self._video is not None:
            read, pixels = self._video.read()
            if read:
                empty = False
                yield from idle_until(due_ns, self._clock, self._sleep)
                due_ns = max(due_ns, self._clock() - self._period_ns()) + self._period_ns()
                yield self._frame(pixels, self._clock())
            elif not self._config.loop:
                return
            elif empty or not self._video.set(cv2.CAP_PROP_POS_FRAMES, 0):
                raise CameraError(f"{self._config.file} cannot be started again: replay it without loop = true")
            else:
                empty = True

    def _live(self) -> Iterator[Event]:
        """At most `rate_hz` of the camera's frames, always the newest: another thread reads and drops the others."""
        due_ns = self._clock()
        while True:
            if self._video is not None:
                with _Newest(self._video, self._clock) as newest:
                    while (event := newest.take()) is not False:
                        if event is None or event[1] < due_ns:
                            yield None
                        else:
                            due_ns = max(due_ns, self._clock() - self._period_ns()) + self._period_ns()
                            yield self._frame(*event)
            yield from self._reopen()

    def _reopen(self) -> Iterator[Event]:
        self.__exit__()
        log.error("%s", self._missing())
        until_ns = self._clock() + round(REOPEN_S * 1e9)
        while self._clock() < until_ns:
            yield Outage(self._missing())
            self._sleep(IDLE_S)
        self._video = self._open()

    def _frame(self, pixels: cv2.typing.MatLike, captured_ns: int) -> Frame:
        sequence = next(self._sequence)
        image: Image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
        return Frame(sequence, f"{self._name}-{sequence:06d}", image, captured_ns)

    def _period_ns(self) -> int:
        rate_hz = self._config.rate_hz
        if rate_hz is None and self._config.file is not None and self._video is not None:
            rate_hz = self._video.get(cv2.CAP_PROP_FPS)
        return round(1e9 / rate_hz) if rate_hz else 0

    def _open(self) -> cv2.VideoCapture | None:
        source = self._config.device if self._config.file is None else str(self._config.file)
        video = self._open_video(source if source is not None else 0)
        if not video.isOpened():
            return None
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # of a live camera, where the driver knows it
        return video

    def _missing(self) -> str:
        if self._config.file is not None:
            return f"{self._config.file} is no video that can be read: correct camera.file in station.toml"
        return f"USB camera {self._config.device} is not there: plug it in, or correct camera.device in station.toml"


class _Newest:
    """Reads a live camera in a thread and keeps its newest frame, so that none is an old one."""

    def __init__(self, video: cv2.VideoCapture, clock: Callable[[], int]) -> None:
        self._video = video
        self._clock = clock
        self._changed = Condition()
        self._frame: tuple[cv2.typing.MatLike, int] | None = None
        self._ended = False
        self._thread = Thread(target=self._read_all, name="video", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._ended = True
        self._thread.join(REOPEN_S)

    def take(self) -> tuple[cv2.typing.MatLike, int] | Literal[False] | None:
        """The newest frame and when it came; None when there is no new one; False when the camera is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended, IDLE_S)
            frame, self._frame = self._frame, None
            return frame if frame is not None else False if self._ended else None

    def _read_all(self) -> None:
        while True:
            read, pixels = self._video.read()
            with self._changed:
                if self._ended or not read:
                    self._ended = True
                    self._changed.notify()
                    return
                self._frame = (pixels, self._clock())
                self._changed.notify()
