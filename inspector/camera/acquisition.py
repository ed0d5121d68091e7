"""The acquisition process: it alone touches the camera, so that a producer that hangs or crashes takes nothing along.

Every frame, and every frame that should have come, becomes a `Picture` or is `Missing`: a part of the station's, either
way. The other end is `inspector.camera.genicam`.
"""

import ctypes
import logging
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from inspector.camera import IDLE_S, MOST_LOST, CameraError
from inspector.camera.pixels import PixelFormatError
from inspector.camera.settings import GenicamCamera
from inspector.camera.words import Away, Idle, Link, Missing, Opening, Picture, Stale, StopAsked

if TYPE_CHECKING:
    from inspector.camera.device import Device, Grab

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # before a camera that is away is tried again
WRAP = 0xFFFF  # GigE Vision 1 counts frames from 1 to this, and then from 1 again
MOST_LATE = 3  # software triggers in a row that no frame follows, until the camera is opened anew
MOST_UNREADABLE = 3  # frames in a row
BEFORE_TRIGGER_NS = 5_000_000  # by which clocks may be apart: a frame exposed earlier than this is another trigger's
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl

log = logging.getLogger(__name__)


class FrameIds:
    """Counts the frames that a camera numbered and never delivered."""

    def __init__(self, last: int | None = None) -> None:
        """`last` is the number before the first one, where it is known."""
        self._last = last
        self._first = True

    def lost_before(self, frame_id: int | None) -> int:
        """How many frames are missing between the one before and this one; 0 where the camera does not count.

        Raises:
            CameraError: the numbers went back, skip more than a line can lose, or are gone.
        """
        last, first, self._last, self._first = self._last, self._first, frame_id, False
        if frame_id is None:
            if not first and last is not None:
                raise CameraError("the camera no longer numbers its frames: it is opened anew")
            return 0
        if last is None or frame_id == last:
            return 0
        lost = frame_id - last - 1 if frame_id > last or last > WRAP else (frame_id - last - 1) % WRAP
        if 0 <= lost <= MOST_LOST:
            return lost
        if first:
            return 0  # a camera whose numbers go on from its last acquisition
        raise CameraError(f"the camera's frame numbers went from {last} to {frame_id}: it is opened anew")


def acquire(config: GenicamCamera, connection: Connection) -> None:
    """Run the camera until the station says stop or is gone; a camera that is lost is opened again, with back-off."""
    _ignore_signals()
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
            except StopAsked:
                raise
            except CameraError as error:
                link.send(Away(str(error)))
            except Exception as error:
                log.exception("the camera cannot be used")
                link.send(Away(f"{type(error).__name__}: {error}"))
            if time.monotonic() - started > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            until = time.monotonic() + pause_s
            while (left_s := until - time.monotonic()) > 0:
                link.obey(left_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    except StopAsked:
        pass


def _ignore_signals() -> None:
    """The station alone ends this process, so that the camera is closed in good order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _session(config: GenicamCamera, link: Link) -> None:
    """From opening the camera to losing it.

    Raises:
        CameraError: it cannot be opened.
        StopAsked: the station said so.
    """
    try:
        from inspector.camera.device import Device
    except ImportError as error:
        raise CameraError(
            f"harvesters and genicam do not load here: pip install harvesters genicam ({error})"
        ) from error

    with Device(config) as device:
        _ignore_signals()  # harvesters puts a handler of its own in their place
        try:
            device.start()
            link.asked.clear()  # by now their parts are given up
            if config.trigger == "free-run":
                _await_frame(device, link, config)
            with link.ring(device.image_bytes, str(device.identity), device.identity.serial):
                if config.trigger == "software":
                    _shoot_all(device, link, config)
                else:
                    _stream(device, link, config)
        except CameraError as error:
            link.send(Away(str(error)))  # before the teardown, which may take its time


def _await_frame(device: "Device", link: Link, config: GenicamCamera) -> None:
    """A camera in free run is there when its first frame is, which is discarded: others come."""
    started = time.monotonic()
    while device.grab(IDLE_S) is None:
        link.send(Opening())
        link.obey()
        device.assert_alive()
        _require_frames(device, time.monotonic() - started, config)


def _stream(device: "Device", link: Link, config: GenicamCamera) -> None:
    """Every frame that comes is a part; so is every frame that was numbered and did not come."""
    ids = FrameIds(0 if config.trigger == "hardware" and not device.numbers_from_zero else None)
    incomplete, unreadable, heard = 0, 0, time.monotonic()
    while True:
        link.obey()
        try:
            grab = device.grab(IDLE_S)
        except PixelFormatError as error:
            unreadable += 1
            link.send(Missing(1, "unreadable"))
            if unreadable >= MOST_UNREADABLE:
                raise
            log.warning("%s", error)
            incomplete += 1  # its number is not known either
            continue
        if new := device.take_incomplete():
            incomplete, heard = incomplete + new, time.monotonic()
            link.send(Missing(new, "incomplete"))
        if grab is not None:
            _tell_lost(ids, grab, incomplete, link)
            _deliver(grab, link)
            incomplete, unreadable, heard = 0, 0, time.monotonic()
        elif not new:
            device.assert_alive()
            if config.trigger == "free-run":
                _require_frames(device, time.monotonic() - heard, config)
            link.send(Idle())


def _tell_lost(ids: FrameIds, grab: "Grab", known: int, link: Link) -> None:
    """Parts between the last frame and this one, besides those that are known to be missing."""
    try:
        lost = ids.lost_before(grab.frame_id) - known
    except CameraError:
        link.send(Missing(1, "unreadable"))  # this one: which part it shows is not known
        raise
    if lost > 0:
        link.send(Missing(lost, "lost"))


def _require_frames(device: "Device", silent_s: float, config: GenicamCamera) -> None:
    """A camera in free run sends frames without being asked: one that does not has stalled."""
    if silent_s > max(config.timeout_ms / 1000, 3 / (config.rate_hz or np.inf)):
        raise CameraError(f"camera {device.identity}: answers, but has sent no frame for {silent_s:.1f} s")


def _shoot_all(device: "Device", link: Link, config: GenicamCamera) -> None:
    """Trigger when the station is asked to, or at its own pace; every trigger is a part."""
    due, late = time.monotonic(), 0
    while True:
        trigger = None
        if config.rate_hz is None:
            trigger = _wait_to_be_asked(device, link)
        else:
            _wait_until(due, device, link)
            due = max(due + 1 / config.rate_hz, time.monotonic())  # what was missed is not made up for
        if _shoot(device, link, config.timeout_ms / 1000, trigger):
            late = 0
            continue
        late += 1
        if late == MOST_LATE:
            raise CameraError(f"camera {device.identity}: sends no frame within {config.timeout_ms:g} ms of a trigger")
        device.restart()  # so that this trigger's frame cannot pass for the next one's


def _wait_to_be_asked(device: "Device", link: Link) -> int:
    while not link.asked:
        link.obey(IDLE_S)
        _discard_pending(device, link)
        if not link.asked:
            device.assert_alive()
            link.send(Idle())
    return link.asked.popleft()


def _wait_until(due: float, device: "Device", link: Link) -> None:
    while (left_s := due - time.monotonic()) > 0:
        link.obey(min(left_s, IDLE_S))
        _discard_pending(device, link)
        if left_s > IDLE_S:
            device.assert_alive()
            link.send(Idle())


def _shoot(device: "Device", link: Link, timeout_s: float, trigger: int | None) -> bool:
    """One part: a trigger, and its frame. False when no frame of its own came in time."""
    _discard_pending(device, link)
    device.take_incomplete()
    triggered_ns = time.monotonic_ns()
    try:
        device.trigger()
        grab = _frame_of(triggered_ns, device, link, triggered_ns / 1e9 + timeout_s)
    except PixelFormatError as error:
        log.warning("%s", error)
        link.send(Missing(1, "unreadable", trigger))
        return False
    except CameraError:
        link.send(Missing(1, "late", trigger))
        raise
    if grab is not None:
        _deliver(grab, link, trigger)
    elif device.take_incomplete():
        link.send(Missing(1, "incomplete", trigger))
    else:
        link.send(Missing(1, "late", trigger))
        return False
    return True


def _frame_of(triggered_ns: int, device: "Device", link: Link, deadline: float) -> "Grab | None":
    """The frame that a trigger exposed; None when it came incomplete, or not in time."""
    while (left_s := deadline - time.monotonic()) > 0:
        grab = device.grab(min(left_s, IDLE_S))
        if grab is not None and grab.is_exact and grab.captured_ns < triggered_ns - BEFORE_TRIGGER_NS:
            link.send(Stale(1))
        elif grab is not None or device.has_incomplete:
            return grab
        else:
            device.assert_alive()
            link.send(Idle())
        link.obey()
    return None


def _discard_pending(device: "Device", link: Link) -> None:
    while device.pending:
        if device.grab(IDLE_S) is not None:
            link.send(Stale(1))


def _deliver(grab: "Grab", link: Link, trigger: int | None = None) -> None:
    link.obey()  # for slots that were released while the camera was waited for
    try:
        placed = link.place(grab.image)
    except CameraError:
        link.send(Missing(1, "unreadable", trigger))
        raise
    if placed is None:
        link.send(Missing(1, "overrun", trigger))
    else:
        height, width, channels = grab.image.shape
        link.send(Picture(*placed, (height, width, channels), grab.captured_ns, grab.exposure_us, trigger))
