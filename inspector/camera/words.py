"""What the acquisition process and the station say to each other: words through a pipe, images through a ring.

The ring is shared memory of a few slots. The acquisition process fills a free slot and names it in a `Picture`; the
station copies the image out and gives the slot back with a `Release`. A camera that is opened again gets a new ring
with a new number, and what is said of an old one counts for nothing.
"""

import os
import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Literal

import msgspec
import numpy as np

from inspector.camera import CameraError
from inspector.inspection import Image

Why = Literal["incomplete", "lost", "late", "overrun", "unreadable"]


class Opening(msgspec.Struct, tag=True):
    """The camera is being opened, and that goes on."""


class Opened(msgspec.Struct, tag=True):
    """The camera is there and acquires."""

    camera: str
    serial: str
    memory: str  # name of the ring's shared memory
    ring: int  # counts the rings of this process
    slot_bytes: int


class Picture(msgspec.Struct, tag=True):
    """One part's image lies in the ring."""

    ring: int
    slot: int
    shape: tuple[int, int, int]
    captured_ns: int
    exposure_us: float | None
    trigger: int | None = None  # of `Expose`


class Missing(msgspec.Struct, tag=True):
    """Parts whose picture will not come."""

    count: int
    why: Why
    trigger: int | None = None  # of `Expose`; then it is one part


class Stale(msgspec.Struct, tag=True):
    """Pictures came that belong to no part: their triggers were given up."""

    count: int


class Idle(msgspec.Struct, tag=True):
    """The camera was asked and answers; no part came."""


class Away(msgspec.Struct, tag=True):
    """The camera is not there, or does not do its work; it is tried again until it does."""

    reason: str


class Release(msgspec.Struct, tag=True):
    """The slot's image was copied."""

    ring: int
    slot: int


class Expose(msgspec.Struct, tag=True):
    """A part is in front of the camera."""

    trigger: int


class Stop(msgspec.Struct, tag=True):
    """Close the camera and end."""


Word = Opening | Opened | Picture | Missing | Stale | Idle | Away
Command = Release | Expose | Stop

encode = msgspec.msgpack.Encoder().encode
decode_word = msgspec.msgpack.Decoder(Word).decode
decode_command = msgspec.msgpack.Decoder(Command).decode


class StopAsked(Exception):  # noqa: N818 - no error
    """The station asked for the end, or is gone."""


class Link:
    """The acquisition's end of the pipe, and the ring's free slots. Nothing here waits for a station that is busy."""

    def __init__(self, connection: Connection, slots: int) -> None:
        self._connection = connection
        self._slots = slots
        self._unsaid: deque[Word] = deque()  # while the pipe is full
        self._memory: SharedMemory | None = None
        self._ring = 0
        self._slot_bytes = 0
        self._free: list[int] = []
        self.asked: deque[int] = deque()  # triggers of parts that are to be exposed

    @contextmanager
    def ring(self, slot_bytes: int, camera: str, serial: str) -> Iterator[None]:
        """Shared memory for so many images, announced to the station, which removes it, even if this process is killed.

        Raises:
            CameraError: there is no room for it.
        """
        memory = _allocated(self._slots * slot_bytes)
        self._ring += 1
        self._memory, self._slot_bytes, self._free = memory, slot_bytes, list(range(self._slots))
        try:
            self.send(Opened(camera, serial, memory.name, self._ring, slot_bytes))
            yield
        finally:
            self._memory = None
            memory.close()

    def send(self, word: Word) -> None:
        """Say something to the station, at once or as soon as it listens.

        Raises:
            StopAsked: it is gone.
        """
        last = self._unsaid[-1] if self._unsaid else None
        if isinstance(word, Idle) and last is not None:
            return  # a sign of life that is late is none
        same_loss = (
            isinstance(word, Missing)
            and isinstance(last, Missing)
            and (word.why, word.trigger, last.trigger) == (last.why, None, None)
        )
        if isinstance(word, Missing | Stale) and (same_loss or (type(word) is type(last) is Stale)):
            last.count += word.count  # type: ignore[union-attr]
        else:
            self._unsaid.append(word)
        self._say()

    def place(self, image: Image) -> tuple[int, int] | None:
        """Copy an image into a free slot: the ring's number and the slot; None when the station has released none.

        Raises:
            CameraError: the image is larger than the camera said.
        """
        if self._memory is None or image.nbytes > self._slot_bytes:
            raise CameraError("the camera changed its image size while running: it is opened anew")
        if not self._free:
            return None
        slot = self._free.pop()
        image_in(self._memory, slot, self._slot_bytes, image.shape)[:] = image
        return self._ring, slot

    def obey(self, timeout_s: float = 0.0) -> None:
        """Take what the station says, waiting so long for it to say something; say what was left unsaid.

        Raises:
            StopAsked: it said so, or is gone.
        """
        try:
            while self._wait(timeout_s):
                timeout_s = 0.0
                command = decode_command(self._connection.recv_bytes())
                if isinstance(command, Stop):
                    raise StopAsked
                if isinstance(command, Expose):
                    self.asked.append(command.trigger)
                elif command.ring == self._ring:
                    self._free.append(command.slot)
        except (EOFError, OSError) as error:
            raise StopAsked from error

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a command, saying what was left unsaid as soon as the station listens; False when none came."""
        until = time.monotonic() + timeout_s
        while True:
            self._say()
            unsaid = [self._connection] if self._unsaid else []
            left_s = max(until - time.monotonic(), 0.0)
            heard, listened, _ = select.select([self._connection], unsaid, [], left_s)
            if heard or not listened:
                return bool(heard)

    def _say(self) -> None:
        try:
            while self._unsaid and select.select([], [self._connection], [], 0)[1]:
                self._connection.send_bytes(encode(self._unsaid[0]))
                self._unsaid.popleft()
        except OSError as error:
            raise StopAsked from error


def image_in(memory: SharedMemory, slot: int, slot_bytes: int, shape: tuple[int, ...]) -> Image:
    """The image in a slot of the ring, not copied."""
    image: Image = np.ndarray(shape, np.uint8, buffer=memory.buf, offset=slot * slot_bytes)
    return image


def _allocated(size: int) -> SharedMemory:
    memory = SharedMemory(create=True, size=size)
    try:
        with open(f"/dev/shm/{memory.name}", "r+b") as file:  # noqa: PTH123, S108
            os.posix_fallocate(file.fileno(), 0, size)  # or a full /dev/shm would end this process at the first image
    except OSError as error:
        memory.close()
        memory.unlink()
        raise CameraError(
            f"no room for {size / 1e6:.0f} MB of images in /dev/shm ({error.strerror}): enlarge it, or lower "
            "camera.buffers in station.toml"
        ) from error
    return memory
