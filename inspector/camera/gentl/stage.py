"""The world before the simulated camera: what it sees, when it is triggered, and what goes wrong with it.

A stage is one file in shared memory, and one stage is one camera: while it runs, the producer lists it in any process,
as if the camera were plugged in. Here pictures are shown, lines are pulsed, faults are switched, and the truth is read
of what the camera exposed. Knows nothing of GenTL; `producer.c` is the other side of the file.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from inspector.camera import CameraError
from inspector.camera.gentl.layout import HEADER_SIZE, LOG_ENTRY, LOG_LENGTH, MAGIC, STAGE_BYTE, VERSION, Header

Value = TypeVar("Value", bound=float)


_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, pid
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_POLL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened so far on a stage."""

    exposures: int
    delivered: int  # buffers handed to the consumer, incomplete ones among them
    incomplete: int
    dropped: int  # lost on the wire, by `drop_every`
    missed_triggers: int  # came while the camera did not listen, or during an exposure
    underruns: int  # lost because no buffer was queued
    repeated: int  # triggers without a new picture
    opens: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """The truth about one frame."""

    frame_id: int  # counts from 1 since AcquisitionStart
    exposed_ns: int  # CLOCK_MONOTONIC, as time.monotonic_ns(), at the start of the exposure
    part: int | None  # which of the pictures shown, from 0; None: there was none yet


class _Switch(Generic[Value]):
    """A setting that the camera obeys, by its name in `LAYOUT`."""

    def __init__(self, kind: Callable[[Any], Value]) -> None:
        self._kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, stage: "StageView", owner: type) -> Value:
        return self._kind(stage.header.get(self._name)[0])

    def __set__(self, stage: "StageView", value: Value) -> None:
        stage.header.set(self._name, value)


class StageView:
    """A running stage, seen from any process. One process at a time may show pictures, and one may pulse lines."""

    stalled = _Switch(bool)
    hang = _Switch(bool)
    abort = _Switch(bool)
    incomplete_every = _Switch(int)
    drop_every = _Switch(int)
    line_padding = _Switch(int)
    transport_delay_us = _Switch(int)
    clock_offset_ns = _Switch(int)
    clock_ppm = _Switch(float)

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.header = Header(memory)
        self._slots = self.header.number("slots")
        self._shape = tuple(self.header.number(name) for name in ("height", "width", "channels"))

    @property
    def name(self) -> str:
        """Of the stage; the camera's id is simulated:NAME."""
        return self.header.text("name")

    @property
    def serial(self) -> str:
        """DeviceSerialNumber."""
        return self.header.text("serial")

    @property
    def user_id(self) -> str:
        """DeviceUserID, as somebody wrote it last."""
        return self.header.text("user_id")

    @property
    def present(self) -> bool:
        """Whether the camera is plugged in. What was open when it was pulled out stays dead when it is back."""
        return bool(self.header.number("present"))

    @present.setter
    def present(self, present: bool) -> None:
        if self.present and not present:
            self.header.set("power_cycles", self.header.number("power_cycles") + 1)
        self.header.set("present", present)

    @property
    def acquiring(self) -> bool:
        """Whether a consumer has started the camera; one that was killed leaves this true until the next opens it."""
        return bool(self.header.number("acquiring"))

    @property
    def waiting(self) -> int:
        """Pictures that were shown and not yet exposed."""
        return self.header.number("written") - self.header.number("taken")

    @property
    def armed_line(self) -> int | None:
        """The line whose pulses trigger the camera now."""
        armed = self.header.number("armed_line")
        return armed - 1 if armed else None

    def show(self, image: npt.NDArray[np.uint8], timeout_s: float) -> bool:
        """Put the next part before the camera, which exposes each picture once.

        Args:
            image: (H, W) or (H, W, C) as the stage was made.
            timeout_s: how long to wait while as many pictures wait as there are slots.

        Returns:
            False when the camera did not take one in time; then this one was not shown.

        Raises:
            ValueError: the image is not of the stage's size, channels or type.
        """
        picture = self._checked(image)
        until = time.monotonic() + timeout_s
        while self.waiting >= self._slots - 1:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        number = self.header.number("written")
        offset = HEADER_SIZE + number % self._slots * picture.size
        slot = np.frombuffer(self._memory, np.uint8, picture.size, offset)
        np.copyto(slot.reshape(self._shape), picture)
        self.header.set("written", number + 1)
        return True

    def pulse(self, line: int = 0) -> None:
        """A pulse on Line0 or Line1; where the camera does not listen to it, it is a missed trigger."""
        if self.armed_line == line:
            pulses = list(self.header.get("pulses"))
            pulses[line] += 1
            self.header.set("pulses", *pulses)
        else:
            self.header.set("unheard_pulses", self.header.number("unheard_pulses") + 1)

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return Counters(
            exposures=self.header.number("exposures"),
            delivered=self.header.number("delivered"),
            incomplete=self.header.number("incomplete"),
            dropped=self.header.number("dropped"),
            missed_triggers=self.header.number("missed_triggers") + self.header.number("unheard_pulses"),
            underruns=self.header.number("underruns"),
            repeated=self.header.number("repeated"),
            opens=self.header.number("opens"),
        )

    def exposures(self) -> list[Exposure]:
        """The last exposures, at most `LOG_LENGTH`, the newest last."""
        before = self.header.number("logged")
        entries = list(LOG_ENTRY.iter_unpack(self.header.get("log")[0]))
        oldest = max(0, self.header.number("logged") + 1 - LOG_LENGTH)  # what may have been written over meanwhile
        numbers = range(oldest, before)
        return [
            Exposure(frame_id, exposed_ns, None if part < 0 else part)
            for frame_id, exposed_ns, part in (entries[number % LOG_LENGTH] for number in numbers)
        ]

    def camera_ns(self, host_ns: int) -> int:
        """What the camera's clock shows when time.monotonic_ns() is host_ns, to a nanosecond."""
        drift_ns = (host_ns - self.header.number("clock_origin_ns")) * self.clock_ppm * 1e-6
        return host_ns + self.clock_offset_ns + int(drift_ns // 1)

    def _checked(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        picture = image[..., np.newaxis] if image.ndim == 2 else image
        if picture.shape != self._shape or picture.dtype != np.uint8:
            raise ValueError(f"the stage takes uint8 of {self._shape}, not {image.dtype} of {image.shape}")
        return picture


class Stage(StageView):
    """Makes a stage; while it is entered, its camera is plugged in.

    The camera runs free, and waits where no picture does; triggered without a new picture it exposes the last one
    again, or darkness when there was none.
    """

    def __init__(
        self,
        name: str,
        width: int,
        height: int,
        *,
        channels: int = 3,
        serial: str | None = None,
        user_id: str | None = None,
        slots: int = 8,
        folder: Path | None = None,
    ) -> None:
        """The camera's serial number and user id follow from the name where they are not given.

        Args:
            name: of letters, digits, dots, dashes and underscores; names the camera too.
            width: of the sensor, a multiple of 4, from 16.
            height: a multiple of 2, from 16.
            channels: 1 grey or 3 RGB.
            serial: DeviceSerialNumber.
            user_id: DeviceUserID.
            slots: how many pictures may wait.
            folder: of the stages; absent: `stage_folder()`, where the producer looks.

        Raises:
            ValueError: no camera can be like that.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a stage: letters, digits and . _ - up to 48")
        if width % 4 or height % 2 or not 16 <= width <= 65532 or not 16 <= height <= 65534:
            raise ValueError(f"no sensor has {width} x {height} pixels: multiples of 4 and 2, from 16")
        if channels not in {1, 3} or not 1 <= slots <= 1024:
            raise ValueError("a stage has 1 or 3 channels, and from 1 to 1024 slots")
        self.path = (folder or stage_folder()) / f"{name}.stage"
        self._identity = {
            "name": name,
            "serial": serial if serial is not None else f"SIM{zlib.crc32(name.encode()):08X}",
            "user_id": user_id if user_id is not None else name,
        }
        self._geometry = {"width": width, "height": height, "channels": channels, "slots": slots + 1}
        self._size = HEADER_SIZE + (slots + 1) * width * height * channels
        if any(len(text.encode()) > 63 for text in self._identity.values()):
            raise ValueError("serial number and user id have at most 63 bytes")

    def __enter__(self) -> Self:
        """Plug the camera in.

        Raises:
            CameraError: a stage of this name is running, or there is no room for it.
        """
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_running(self.path):
            raise CameraError(f"a stage called {self._identity['name']} is running already ({self.path})")
        self._file, temporary = tempfile.mkstemp(prefix=".", dir=folder)
        try:
            self._make()
            Path(temporary).rename(self.path)
        except BaseException:
            os.close(self._file)
            Path(temporary).unlink(missing_ok=True)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Unplug the camera and remove the file; whoever has it open sees it vanish."""
        self.present = False
        if self.path.exists() and self.path.stat().st_ino == os.fstat(self._file).st_ino:
            self.path.unlink()
        self._memory.close()
        os.close(self._file)

    def _make(self) -> None:
        try:
            os.posix_fallocate(self._file, 0, self._size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise CameraError(f"no room for a stage of {self._size / 1e6:.0f} MB in {self.path.parent}") from error
        super().__init__(_new_memory(self._file, self._size, self._geometry, self._identity))
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _byte_lock(STAGE_BYTE))


@contextlib.contextmanager
def attach(name: str, folder: Path | None = None) -> Iterator[StageView]:
    """The stage of this name, which runs in this process or another.

    Raises:
        CameraError: there is none.
    """
    path = (folder or stage_folder()) / f"{name}.stage"
    if not _is_running(path):
        raise CameraError(f"no stage called {name} is running ({path})")
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield StageView(memory)


def stage_folder() -> Path:
    """Where stages are, for the producer too: INSPECTOR_STAGES, else a folder of this user in shared memory."""
    if folder := os.environ.get("INSPECTOR_STAGES"):
        return Path(folder)
    return Path(f"/dev/shm/inspector-cameras-{os.getuid()}")  # noqa: S108


def _new_memory(file: int, size: int, geometry: dict[str, int], identity: dict[str, str]) -> mmap.mmap:
    memory = mmap.mmap(file, size)
    header = Header(memory)
    header.set("magic", MAGIC)
    header.set("version", VERSION)
    header.set("header_size", HEADER_SIZE)
    header.set("clock_origin_ns", time.monotonic_ns())
    for name, number in geometry.items():
        header.set(name, number)
    for name, text in identity.items():
        header.set(name, text.encode())
    header.set("present", True)
    return memory


def _byte_lock(byte: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)


def _is_running(path: Path) -> bool:
    """Whether the file's stage is alive; that of a process that was killed is not."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _byte_lock(STAGE_BYTE))
    finally:
        os.close(file)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
