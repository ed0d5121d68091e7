"""The header of a stage's file, field by field: what Python and `producer.c` share. Pictures follow it."""

import mmap
import struct
from typing import Any, Final, NamedTuple

MAGIC = b"INSPSTGE"
VERSION = 1
HEADER_SIZE = 8192
LOG_LENGTH = 256
LOG_ENTRY = struct.Struct("Qqq")  # frame id, CLOCK_MONOTONIC in ns, part
STAGE_BYTE = 0  # of the file, locked while the stage runs; the producer locks byte 1 while a camera is open


class Field(NamedTuple):
    """Where a field lies in the header, and its format as `struct` has it (native: one store, never half a number)."""

    offset: int
    format: str


# `struct stage` in producer.c is the same, and a test compares them.
LAYOUT: Final = {
    # Written once, before anybody sees the file.
    "magic": Field(0, "8s"),
    "version": Field(8, "I"),
    "header_size": Field(12, "I"),  # here the first picture begins
    "width": Field(16, "I"),  # of the sensor and of every picture
    "height": Field(20, "I"),
    "channels": Field(24, "I"),  # 1 grey or 3 RGB
    "slots": Field(28, "I"),  # pictures in the ring: those that wait and the one that was exposed last
    "clock_origin_ns": Field(32, "q"),  # CLOCK_MONOTONIC when the stage began: clock_ppm counts from here
    "name": Field(64, "64s"),
    "serial": Field(128, "64s"),
    "user_id": Field(192, "64s"),  # also written by the camera: DeviceUserID
    # Switches: written here, obeyed by the camera.
    "present": Field(256, "I"),  # 0: the cable is pulled
    "stalled": Field(260, "I"),  # the camera answers and sends no frames
    "hang": Field(264, "I"),  # every access to the camera and every wait for a frame blocks while this is set
    "abort": Field(268, "I"),  # the process that has opened the camera aborts in its next call, once
    "incomplete_every": Field(272, "I"),  # every n-th buffer is incomplete; 0: none
    "drop_every": Field(276, "I"),  # every n-th frame is lost on the wire
    "line_padding": Field(280, "I"),  # bytes after every line of the image, from the next AcquisitionStart on
    "transport_delay_us": Field(284, "I"),  # from the end of an exposure to its arrival, besides the copy
    "clock_offset_ns": Field(288, "q"),  # camera's clock - CLOCK_MONOTONIC
    "clock_ppm": Field(296, "d"),  # how much faster it runs
    "power_cycles": Field(304, "Q"),  # how often `present` went off: what was open then stays dead
    # The ring and the lines: written here.
    "written": Field(320, "Q"),  # pictures shown so far; number n lies in slot n % slots
    "pulses": Field(328, "2Q"),  # on Line0 and Line1 while the camera listened to that line
    "unheard_pulses": Field(344, "Q"),  # while it did not
    # Written by the camera.
    "taken": Field(384, "Q"),  # pictures exposed so far
    "armed_line": Field(392, "Q"),  # 0: none, 1: Line0, 2: Line1
    "heard_pulses": Field(400, "2Q"),  # of `pulses`, those that became an exposure or a missed trigger
    "exposures": Field(416, "Q"),
    "delivered": Field(424, "Q"),
    "incomplete": Field(432, "Q"),
    "dropped": Field(440, "Q"),
    "missed_triggers": Field(448, "Q"),
    "underruns": Field(456, "Q"),
    "repeated": Field(464, "Q"),
    "opens": Field(472, "Q"),
    "logged": Field(480, "Q"),  # exposures written to the log so far; number n lies at n % LOG_LENGTH
    "acquiring": Field(488, "Q"),  # between AcquisitionStart and AcquisitionStop
    "log": Field(512, "6144s"),
}


class Header:
    """The fields of a stage's file, by their names in `LAYOUT`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def get(self, name: str) -> tuple[Any, ...]:
        """The values of a field."""
        offset, form = LAYOUT[name]
        return struct.unpack_from(form, self._memory, offset)

    def set(self, name: str, *values: float | bytes) -> None:
        """Write all values of a field."""
        offset, form = LAYOUT[name]
        struct.pack_into(form, self._memory, offset, *values)

    def number(self, name: str) -> int:
        """The value of a field that is one whole number."""
        return int(self.get(name)[0])

    def text(self, name: str) -> str:
        """The value of a field that is a text."""
        return bytes(self.get(name)[0]).split(b"\0")[0].decode(errors="replace")
