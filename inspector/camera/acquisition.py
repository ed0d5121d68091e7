"""The acquisition process: it alone touches the camera, so that a producer that hangs or crashes takes nothing along.

Images go through a ring in shared memory, words about them through a pipe. The other end is `inspector.camera.genicam`.
"""

import ctypes
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from inspector.camera import IDLE_S, CameraError
from inspector.inspection import Image
from inspector.station import GenicamCamera

if TYPE_CHECKING:
    from inspector.camera.device import Device, Grab

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # before a camera that is away is tried again
WRAP = 0xFFFF  # GigE Vision 1 counts frames from 1 to this, and then from 1 again
MOST_LATE = 3  # software triggers in a row that no frame follows, until the camera is opened anew
MOST_LOST = 1000  # frames in one gap; more is no gap
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl

log = logging.getLogger(__name__)

Why = Literal["incomplete", "lost", "late", "overrun", "unreadable"]


class Opened(msgspec.Struct, tag=True):
    """The camera is there and acquires."""

    camera: str
    serial: str
    ring: str  # name of the shared memory
    slot_bytes: int


class Picture(msgspec.Struct, tag=True):
    """One part's image lies in the ring."""

    slot: int
    shape: tuple[int, int, int]
    frame_id: int | None
    captured_ns: int
    exposure_us: float | None


class Missing(msgspec.Struct, tag=True):
    """Parts whose picture will not come."""

    count: int
    why: Why


class Stale(msgspec.Struct, tag=True):
    """A picture came that belongs to no part: its trigger was given up."""


class Idle(msgspec.Struct, tag=True):
    """The camera was asked and answers; no part came."""


class Away(msgspec.Struct, tag=True):
    """The camera is not there, or does not do its work; it is tried again until it does."""

    reason: str


class Release(msgspec.Struct, tag=True):
    """The slot's image was copied."""

    slot: int


class Stop(msgspec.Struct, tag=True):
    """Close the camera and end."""


Word = Opened | Picture | Missing | Stale | Idle | Away
Command = Release | Stop

_encode = msgspec.msgpack.Encoder().encode
_decode_command = msgspec.msgpack.Decoder(Command).decode


class _Stopped(Exception):  # noqa: N818 - no error
    """The station asked for the end, or is gone."""


class Link:
    """The acquisition's end of the pipe, and the ring's free slots."""

    def __init__(self, connection: Connection, slots: int) -> None:
        self._connection = connection
        self._slots = slots
        self._free: list[int] = []
        self._ring: SharedMemory | None = None
        self._slot_bytes = 0

    @contextmanager
    def ring(self, slot_bytes: int) -> Iterator[str]:
        """Shared memory for so many images; the station removes it, as it must when this process is killed."""
        memory = SharedMemory(create=True, size=self._slots * slot_bytes)
        self._ring, self._slot_bytes, self._free = memory, slot_bytes, list(range(self._slots))
        try:
            yield memory.name
        finally:
            self._ring = None
            memory.close()

    def send(self, word: Word) -> None:
        """Say something to the station.

        Raises:
            _Stopped: it is gone.
        """
        try:
            self._connection.send_bytes(_encode(word))
        except OSError as error:
            raise _Stopped from error

    def place(self, image: Image) -> int | None:
        """Copy an image into a free slot; None when the station has not released any.

        Raises:
            CameraError: the image is larger than the camera said.
        """
        if self._ring is None or image.nbytes > self._slot_bytes:
            raise CameraError("the camera changed its image size while running: it is opened anew")
        if not self._free:
            return None
        slot = self._free.pop()
        kept: Image = np.ndarray(image.shape, np.uint8, buffer=self._ring.buf, offset=slot * self._slot_bytes)
        kept[:] = image
        return slot

    def obey(self, timeout_s: float = 0.0) -> None:
        """Take what the station says, waiting so long for it to say something.

        Raises:
            _Stopped: it said so, or is gone.
        """
        try:
            while self._connection.poll(timeout_s):
                timeout_s = 0.0
                command = _decode_command(self._connection.recv_bytes())
                if isinstance(command, Stop):
                    raise _Stopped
                self._free.append(command.slot)
        except (EOFError, OSError) as error:
            raise _Stopped from error


class FrameIds:
    """Counts the frames that a camera numbered and never delivered."""

    def __init__(self) -> None:
        self._last: int | None = None

    def lost_before(self, frame_id: int | None) -> int:
        """How many frames are missing between the one before and this one; 0 where the camera does not count.

        Raises:
            CameraError: the numbers went back, or skip more than a line can lose.
        """
        last, self._last = self._last, frame_id
        if last is None or frame_id is None or frame_id == last:
            return 0
        lost = frame_id - last - 1 if frame_id > last or last > WRAP else (frame_id - last - 1) % WRAP
        if not 0 <= lost <= MOST_LOST:
            raise CameraError(f"the camera's frame numbers went from {last} to {frame_id}: it is opened anew")
        return lost


def acquire(config: GenicamCamera, connection: Connection) -> None:
    """Run the camera until the station says stop or is gone; a camera that is lost is opened again, with back-off."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)  # or a hanging producer would outlive the station
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    link = Link(connection, config.buffers)
    pause_s = FIRST_PAUSE_S
    try:
        while True:
            started = time.monotonic()
            try:
                _session(config, link)
            except CameraError as error:
                link.send(Away(str(error)))
            if time.monotonic() - started > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            link.obey(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    except _Stopped:
        pass


def _session(config: GenicamCamera, link: Link) -> None:
    """From opening the camera to losing it.

    Raises:
        CameraError: it cannot be opened, or is lost.
        _Stopped: the station said so.
    """
    try:
        from inspector.camera.device import Device
    except ImportError as error:
        raise CameraError(
            f"harvesters and genicam do not load here: pip install harvesters genicam ({error})"
        ) from error

    with Device(config) as device:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # harvesters puts a handler of its own in its place
        with link.ring(device.image_bytes) as name:
            device.start()
            opened = Opened(str(device.identity), device.identity.serial, name, device.image_bytes)
            if config.trigger == "free-run":
                _await_frame(device, link, config)
            link.send(opened)
            if config.trigger == "software":
                _shoot_all(device, link, config)
            else:
                _stream(device, link, config)


def _await_frame(device: "Device", link: Link, config: GenicamCamera) -> None:
    """A camera in free run is there when its first frame is, which is discarded: others come."""
    started = time.monotonic()
    while device.grab(IDLE_S) is None:
        link.obey()
        device.assert_alive()
        _require_frames(device, time.monotonic() - started, config)


def _stream(device: "Device", link: Link, config: GenicamCamera) -> None:
    """Every frame that comes is a part; so is every frame that was numbered and did not come."""
    ids, incomplete, heard = FrameIds(), 0, time.monotonic()
    while True:
        link.obey()
        grab = device.grab(IDLE_S)
        if new := device.take_incomplete():
            incomplete, heard = incomplete + new, time.monotonic()
            link.send(Missing(new, "incomplete"))
        if grab is not None:
            lost = ids.lost_before(grab.frame_id) - incomplete
            if lost > 0:
                link.send(Missing(lost, "lost"))
            incomplete, heard = 0, time.monotonic()
            _deliver(grab, link)
        elif not new:
            device.assert_alive()
            if config.trigger == "free-run":
                _require_frames(device, time.monotonic() - heard, config)
            link.send(Idle())


def _require_frames(device: "Device", silent_s: float, config: GenicamCamera) -> None:
    """A camera in free run sends frames without being asked: one that does not has stalled."""
    from inspector.camera.device import CameraLostError

    if silent_s > max(config.timeout_ms / 1000, 3 / (config.rate_hz or np.inf)):
        raise CameraLostError(f"camera {device.identity}: answers, but has sent no frame for {silent_s:.1f} s")


def _shoot_all(device: "Device", link: Link, config: GenicamCamera) -> None:
    """Trigger at the station's own pace; every trigger is a part."""
    from inspector.camera.device import CameraLostError

    period_s, due, late = 1 / (config.rate_hz or 1), time.monotonic(), 0
    while True:
        _wait_until(due, device, link)
        due = max(due + period_s, time.monotonic())  # what was missed is not made up for
        if _shoot(device, link, config.timeout_ms / 1000):
            late = 0
            continue
        late += 1
        if late == MOST_LATE:
            raise CameraLostError(
                f"camera {device.identity}: takes triggers, but sends no frame within {config.timeout_ms} ms"
            )
        device.restart()  # so that this trigger's frame cannot pass for the next one's


def _wait_until(due: float, device: "Device", link: Link) -> None:
    while (left_s := due - time.monotonic()) > 0:
        link.obey(min(left_s, IDLE_S))
        _discard_pending(device, link)
        if left_s > IDLE_S:
            device.assert_alive()
            link.send(Idle())


def _shoot(device: "Device", link: Link, timeout_s: float) -> bool:
    """One part: a trigger, and its frame. False when no frame came in time."""
    _discard_pending(device, link)
    device.take_incomplete()
    device.trigger()
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        grab = device.grab(min(left_s, IDLE_S))
        if grab is not None:
            _deliver(grab, link)
            return True
        if device.take_incomplete():
            link.send(Missing(1, "incomplete"))
            return True
        link.obey()
    link.send(Missing(1, "late"))
    return False


def _discard_pending(device: "Device", link: Link) -> None:
    while device.pending and device.grab(IDLE_S) is not None:
        link.send(Stale())


def _deliver(grab: "Grab", link: Link) -> None:
    link.obey()  # for slots that were released while the camera was waited for
    slot = link.place(grab.image)
    if slot is None:
        link.send(Missing(1, "overrun"))
    else:
        height, width, channels = grab.image.shape
        link.send(Picture(slot, (height, width, channels), grab.frame_id, grab.captured_ns, grab.exposure_us))
