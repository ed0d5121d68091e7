"""The station's end of a GenICam camera: supervises the acquisition process and turns what it says into frames.

Knows neither harvesters nor genicam; the process that does is `inspector.camera.acquisition`.
"""

import logging
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Self

import msgspec
import numpy as np

from inspector.camera import IDLE_S, NO_PICTURE, CameraError, Event, Outage
from inspector.camera.acquisition import Away, Idle, Missing, Opened, Picture, Release, Stale, Stop, Word, acquire
from inspector.inspection import Frame, Image
from inspector.station import GenicamCamera

SILENT_S = 1.0  # after which the camera counts as away
HANGING_S = 5.0  # after which the acquisition process is killed; a network camera's own time-outs are shorter
OPENING_S = 30.0  # the same while a camera is being opened
ENDING_S = 3.0  # to close the camera in good order
LOG_EVERY_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0  # before a process that died is started again

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Word).decode


class GenicamFeed:
    """Frames of one camera, called SERIAL-000000 and so on.

    Frames that the camera numbered and that never came, came incomplete, came too late after their trigger or found the
    station busy are parts without a picture. `counts` tells them apart.
    """

    def __init__(self, config: GenicamCamera, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._ring: SharedMemory | None = None
        self._slot_bytes = 0
        self._away = "the camera is being opened"  # why no frame can come now; empty: one can
        self._heard = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_at = 0.0
        self._sequence = 0
        self._serial = "camera"
        self.camera = ""  # what it is, as it says
        self.exposure_us: float | None = None  # of the last frame, where the camera says it
        self._log_at: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()  # delivered, incomplete, lost, late, overrun, stale, outages, restarts

    def __enter__(self) -> Self:
        """Open the camera.

        Raises:
            CameraError: it cannot be opened.
        """
        self._start()
        try:
            self._await_camera()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._connection is not None and self._process is not None:
            try:
                self._connection.send_bytes(_encode(Stop()))
                self._process.join(ENDING_S)
            except OSError:
                pass  # it is gone already
        self._end()

    def __iter__(self) -> Iterator[Event]:
        while True:
            word = self._receive()
            if word is None:
                yield from self._silence()
            else:
                yield from self._events(word)

    @property
    def pid(self) -> int:
        """Of the acquisition process, 0 while there is none."""
        return self._process.pid or 0 if self._process is not None else 0

    def _await_camera(self) -> None:
        while self._away:
            word = self._receive()
            if isinstance(word, Opened):
                self._attach(word)
            elif isinstance(word, Away):
                raise CameraError(word.reason)
            elif problem := self._problem():
                raise CameraError(problem)

    def _events(self, word: Word) -> Iterator[Event]:
        """What one word of the acquisition process means for the loop."""
        if not isinstance(word, Away):
            self._away = ""  # also after a silence that ended by itself
        if isinstance(word, Picture):
            self.counts["delivered"] += 1
            self.exposure_us = word.exposure_us
            yield self._frame(self._take(word), word.captured_ns)
        elif isinstance(word, Missing):
            self._count(word.why, word.count)
            for _ in range(word.count):
                yield self._frame(NO_PICTURE, time.monotonic_ns())
        elif isinstance(word, Stale):
            self._count("stale", 1)
        elif isinstance(word, Away):
            yield self._outage(word.reason)
        elif isinstance(word, Opened):
            self._attach(word)
        elif isinstance(word, Idle):
            yield None

    def _silence(self) -> Iterator[Event]:
        """The acquisition process has said nothing for a while: it may be opening the camera, hang, or be dead."""
        if problem := self._problem():
            log.error("%s", problem)
            self._end()
            self._start_at = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            yield self._outage(problem)
        elif self._process is None and self._clock() >= self._start_at:
            self.counts["restarts"] += 1
            self._start()
            yield Outage(self._away)
        elif self._away:
            yield Outage(self._away)
        elif self._clock() - self._heard > SILENT_S:
            yield self._outage(f"{self.camera}: its process is silent")

    def _problem(self) -> str:
        """Why the acquisition process must be replaced; empty where it need not."""
        if self._process is None:
            return ""
        if not self._process.is_alive():
            code = self._process.exitcode or 0
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return f"the camera's process {how}: a fault of its GenTL producer, most likely"
        silent_s = self._clock() - self._heard
        limit_s = HANGING_S if self._ring is not None else OPENING_S
        return f"the camera's process hangs, silent for {silent_s:.0f} s" if silent_s > limit_s else ""

    def _outage(self, reason: str) -> Outage:
        if not self._away:
            self.counts["outages"] += 1
            log.error("the camera is away: %s", reason)
        self._away = reason
        return Outage(reason)

    def _frame(self, image: Image, captured_ns: int) -> Frame:
        frame = Frame(self._sequence, f"{self._serial}-{self._sequence:06d}", image, captured_ns)
        self._sequence += 1
        return frame

    def _count(self, what: str, number: int) -> None:
        """Count, and log the first of a kind and then all of a while together."""
        self.counts[what] += number
        if self._clock() >= self._log_at[what]:
            self._log_at[what] = self._clock() + LOG_EVERY_S
            log.warning("%s: %d %s so far", self.camera, self.counts[what], what)

    def _take(self, picture: Picture) -> Image:
        """Copy the image out of the ring, so that its slot is free again whatever becomes of the part."""
        if self._ring is None:
            return NO_PICTURE
        slot: Image = np.ndarray(picture.shape, np.uint8, buffer=self._ring.buf, offset=picture.slot * self._slot_bytes)
        image = slot.copy()
        self._send(Release(picture.slot))
        return image

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(
            target=acquire, args=(self._config, other_end), name="inspector-camera", daemon=True
        )
        self._process.start()
        other_end.close()
        self._heard = self._clock()

    def _end(self) -> None:
        """Make an end of the process, in whatever state it is."""
        self._detach()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attach(self, opened: Opened) -> None:
        self._detach()
        self._ring, self._slot_bytes = SharedMemory(opened.ring), opened.slot_bytes
        self.camera, self._serial = opened.camera, opened.serial or "camera"
        self._away, self._pause_s = "", FIRST_PAUSE_S
        log.info("camera %s is there", self.camera)

    def _detach(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring.unlink()
            self._ring = None

    def _receive(self) -> Word | None:
        """The next word within `IDLE_S`."""
        if self._connection is None:
            time.sleep(IDLE_S)
            return None
        try:
            if not self._connection.poll(IDLE_S):
                return None
            word: Word = _decode(self._connection.recv_bytes())
        except (EOFError, OSError):  # the process is dead; what it had said before was read before this
            if self._process is not None:
                self._process.join(IDLE_S)
            return None
        self._heard = self._clock()
        return word

    def _send(self, command: Release | Stop) -> None:
        if self._connection is not None:
            try:
                self._connection.send_bytes(_encode(command))
            except OSError:
                log.debug("the camera's process is gone")
