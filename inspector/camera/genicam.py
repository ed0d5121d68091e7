"""The station's end of a GenICam camera: supervises the acquisition process and turns what it says into frames.

Knows neither harvesters nor genicam; the process that does is `inspector.camera.acquisition`.
"""

import logging
import multiprocessing
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from threading import Lock
from typing import Self

from inspector.camera import IDLE_S, NO_PICTURE, CameraError, Event, Outage, Trigger
from inspector.camera.acquisition import acquire
from inspector.camera.settings import GenicamCamera
from inspector.camera.words import (
    Away,
    Command,
    Expose,
    Idle,
    Missing,
    Opened,
    Picture,
    Release,
    Stale,
    Stop,
    Word,
    decode_word,
    encode,
    image_in,
)
from inspector.inspection import Frame, Image

SILENT_S = 1.0  # after which the camera counts as away
HANGING_S = 5.0  # after which the acquisition process is killed; a network camera's own time-outs are shorter
OPENING_S = 30.0  # the same while a camera is being opened
ENDING_S = 3.0  # to close the camera in good order
KILLING_S = 1.0  # a process within its driver may not die at once
LOG_EVERY_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0  # before a process that died is started again
WORKED_S = 5.0  # a process that lived so long before is started again at once

log = logging.getLogger(__name__)


class GenicamFeed:
    """Frames of one camera, called SERIAL-000000 and so on.

    Frames that the camera numbered and that never came, came incomplete, cannot be read, came too late after their
    trigger or found the station busy are parts without a picture. `counts` tells them apart.
    """

    def __init__(
        self,
        config: GenicamCamera,
        *,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stop` ends the wait for a camera that is being opened."""
        self._config = config
        self._stop = stop
        self._clock = clock
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._memory: SharedMemory | None = None
        self._ring: Opened | None = None
        self._away = ""  # why no frame can come now; empty: one can
        self._heard = 0.0
        self._started = 0.0
        self._hung_up = False
        self._pause_s = FIRST_PAUSE_S
        self._start_at = 0.0
        self._sequence = 0
        self._serial = "camera"
        self._sending = Lock()
        self._lock = Lock()  # triggers come from another thread
        self._asked: dict[int, Trigger] = {}  # parts that are to be exposed
        self._refused: deque[Trigger] = deque()  # while the camera was away
        self.camera = "the camera"  # what it is, as it says
        self.exposure_us: float | None = None  # of the last frame, where the camera says it
        self._log_at: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()  # delivered; what `words.Why` names; stale, outages, restarts

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
        self._send(Stop())
        until = self._clock() + ENDING_S
        while self._process is not None and self._process.is_alive() and self._clock() < until:
            self._receive()  # it may not listen before it has said what it has to say
        self._end()

    @property
    def pid(self) -> int:
        """Of the acquisition process, 0 while there is none."""
        return self._process.pid or 0 if self._process is not None else 0

    def __iter__(self) -> Iterator[Event]:
        while True:
            word = self._receive()
            if word is None:
                yield from self._silence()
            else:
                yield from self._events(word)
            yield from self._given_up()

    def expose(self, trigger: Trigger) -> None:
        """Expose one part now; it becomes a frame with this trigger, with or without a picture. From any thread.

        Raises:
            CameraError: something else triggers this camera.
        """
        if self._config.trigger != "software" or self._config.rate_hz is not None:
            raise CameraError('this camera takes no triggers: set camera.trigger = "software", without rate_hz')
        with self._lock:
            if self._away:
                self._refused.append(trigger)
                return
            self._asked[trigger.token] = trigger
        self._send(Expose(trigger.token))

    def _given_up(self) -> Iterator[Event]:
        """Parts that were asked for and will not be exposed, because the camera is away."""
        with self._lock:
            parts = [*self._asked.values(), *self._refused] if self._away else list(self._refused)
            self._refused.clear()
            if self._away:
                self._asked.clear()
        for part in parts:
            self._count("late", 1)
            yield self._frame(NO_PICTURE, time.monotonic_ns(), part)

    def _await_camera(self) -> None:
        while self._away and not self._stop():
            word = self._receive()
            if isinstance(word, Opened):
                self._attach(word)
            elif isinstance(word, Away):
                raise CameraError(word.reason)
            elif word is None and (problem := self._problem()):
                raise CameraError(problem)

    def _events(self, word: Word) -> Iterator[Event]:
        """What one word of the acquisition process means for the loop."""
        if isinstance(word, Picture | Missing | Stale | Idle) and self._ring is not None:
            self._away = ""  # also after a silence that ended by itself
        if isinstance(word, Picture):
            self.counts["delivered"] += 1
            self.exposure_us = word.exposure_us
            yield from self._answered(word.trigger, self._take(word), word.captured_ns)
        elif isinstance(word, Missing):
            self._count(word.why, word.count)
            for _ in range(word.count):
                yield from self._answered(word.trigger, NO_PICTURE, time.monotonic_ns())
        elif isinstance(word, Stale):
            self._count("stale", word.count)
        elif isinstance(word, Away):
            self._detach()
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
            if self._clock() - self._started > WORKED_S:
                self._pause_s = FIRST_PAUSE_S
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
        """Why the acquisition process must be replaced; empty where it need not. Ask only when it has said nothing."""
        if self._process is None:
            return ""
        if self._hung_up and not self._process.is_alive():
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

    def _answered(self, token: int | None, image: Image, captured_ns: int) -> Iterator[Frame]:
        """The frame of a part; none of one that was given up before."""
        if token is None:
            yield self._frame(image, captured_ns)
            return
        with self._lock:
            trigger = self._asked.pop(token, None)
        if trigger is not None:
            yield self._frame(image, captured_ns, trigger)

    def _frame(self, image: Image, captured_ns: int, trigger: Trigger | None = None) -> Frame:
        sequence, self._sequence = self._sequence, self._sequence + 1
        if trigger is None:
            return Frame(sequence, f"{self._serial}-{sequence:06d}", image, captured_ns)
        return trigger.frame(sequence, image, captured_ns)

    def _count(self, what: str, number: int) -> None:
        """Count, and log the first of a kind and then all of a while together."""
        self.counts[what] += number
        if self._clock() >= self._log_at[what]:
            self._log_at[what] = self._clock() + LOG_EVERY_S
            log.warning("%s: %d %s so far", self.camera, self.counts[what], what)

    def _take(self, picture: Picture) -> Image:
        """Copy the image out of the ring, so that its slot is free again whatever becomes of the part."""
        if self._memory is None or self._ring is None or picture.ring != self._ring.ring:
            return NO_PICTURE  # its ring is gone
        image = image_in(self._memory, picture.slot, self._ring.slot_bytes, picture.shape).copy()
        self._send(Release(picture.ring, picture.slot))
        return image

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._away = self._away or "the camera is being opened"
        self._connection, other_end = context.Pipe()
        self._process = context.Process(
            target=acquire, args=(self._config, other_end), name="inspector-camera", daemon=True
        )
        with _blocked_signals():  # until the process ignores them itself
            self._process.start()
        other_end.close()
        self._heard = self._started = self._clock()
        self._hung_up = False

    def _end(self) -> None:
        """Make an end of the process, in whatever state it is."""
        self._detach()
        if self._process is not None:
            self._process.kill()
            self._process.join(KILLING_S)
            if self._process.is_alive():
                log.error("the camera's process %d does not die: its driver holds it", self.pid)
            else:
                self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attach(self, opened: Opened) -> None:
        self._detach()
        self._memory, self._ring = SharedMemory(opened.memory), opened
        self.camera, self._serial = opened.camera, opened.serial or "camera"
        self._away = ""
        log.info("camera %s is there", self.camera)

    def _detach(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory.unlink()
        self._memory, self._ring = None, None

    def _receive(self) -> Word | None:
        """The next word within `IDLE_S`; of a process that is dead, also what it said before."""
        if self._connection is None:
            time.sleep(IDLE_S)
            return None
        try:
            if not self._connection.poll(IDLE_S):
                return None
            word: Word = decode_word(self._connection.recv_bytes())
        except (EOFError, OSError):  # the process is dead, and all that it said was heard
            self._hung_up = True
            if self._process is not None:
                self._process.join(IDLE_S)
            return None
        self._heard = self._clock()
        return word

    def _send(self, command: Command) -> None:
        with self._sending:
            connection = self._connection
            if connection is not None:
                with suppress(OSError):  # the process is gone: that shows when it is listened to
                    connection.send_bytes(encode(command))


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """A process that is started now does not get to see them before it lets them through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
