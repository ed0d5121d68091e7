"""GenTL as the standard has it, function by function, where harvesters does not look."""

import ctypes
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from inspector.camera.gentl.stage import Stage

from .client import GenTL, memory_mb, until

SIDE = 16
SIZE = SIDE * SIDE
PICTURE = np.full((SIDE, SIDE), 50, np.uint8)
INVALID_HANDLE, BUSY, IN_USE, TIMEOUT, ABORT = -1006, -1022, -1004, -1011, -1012
NOT_IMPLEMENTED, NOT_INITIALIZED, INVALID_ID, INVALID_INDEX = -1003, -1002, -1007, -1017
ACCESS_DENIED, INVALID_VALUE, INVALID_ADDRESS, TOO_SMALL, INVALID_PARAMETER = -1005, -1019, -1015, -1016, -1009
WIDTH, EXPOSURE_TIME, START, STOP, TRIGGER_MODE, TRIGGER = 0x1010, 0x1078, 0x1058, 0x1060, 0x1088, 0x10A0
PAYLOAD_SIZE, LOCKED = 0x1038, 0x1040
NEW_BUFFER = 1
INPUT_TO_OUTPUT, OUTPUT_DISCARD, ALL_TO_INPUT, UNQUEUED_TO_INPUT, ALL_DISCARD = range(5)
QUEUED, AWAITING = 4, 5  # STREAM_INFO


@dataclass
class Line:
    """A camera with a stream, an event and buffers, by their handles."""

    gentl: GenTL
    stage: Stage
    interface: ctypes.c_void_p
    device: ctypes.c_void_p
    port: ctypes.c_void_p
    stream: ctypes.c_void_p
    event: ctypes.c_void_p
    buffers: list[ctypes.c_void_p] = field(default_factory=list)

    def allocate(self, count: int) -> None:
        self.buffers = [
            self.gentl.handle("DSAllocAndAnnounceBuffer", self.stream, ctypes.c_size_t(SIZE), ctypes.c_void_p(number))
            for number in range(count)
        ]
        for buffer in self.buffers:
            self.gentl.good("DSQueueBuffer", self.stream, buffer)

    def start(self, frames: int = 2**64 - 1) -> None:
        self.gentl.write(self.port, EXPOSURE_TIME, 50.0)
        self.gentl.good("DSStartAcquisition", self.stream, 0, ctypes.c_uint64(frames))
        assert self.gentl.write(self.port, START, 1) == 0

    def stop(self) -> None:
        assert self.gentl.write(self.port, STOP, 1) == 0
        self.gentl.good("DSStopAcquisition", self.stream, 1)

    def queues(self) -> tuple[int, int]:
        """Buffers in the input pool and in the output queue."""
        return tuple(self.gentl.number("DSGetInfo", self.stream, info) for info in (QUEUED, AWAITING))

    def flush(self, operation: int) -> tuple[int, int]:
        self.gentl.good("DSFlushQueue", self.stream, operation)
        return self.queues()


@pytest.fixture
def line(producer: Path) -> Iterator[Line]:
    gentl = GenTL(producer)
    with Stage("a", SIDE, SIDE, channels=1) as stage, gentl.interface() as interface:
        device = gentl.open(interface, "a")
        stream = gentl.handle("DevOpenDataStream", device, b"stream0")
        event = gentl.handle("GCRegisterEvent", stream, NEW_BUFFER)
        yield Line(gentl, stage, interface, device, gentl.handle("DevGetPort", device), stream, event)


def test_nothing_works_before_the_library_is_initialised(producer: Path) -> None:
    gentl = GenTL(producer)
    assert gentl.TLOpen(ctypes.byref(ctypes.c_void_p())) == NOT_INITIALIZED
    assert gentl.last_error() == (NOT_INITIALIZED, "GCInitLib was not called")
    with gentl.interface():
        assert gentl.GCInitLib() == IN_USE
        assert gentl.TLOpen(ctypes.byref(ctypes.c_void_p())) == IN_USE
    assert gentl.GCCloseLib() == NOT_INITIALIZED


def test_a_stale_handle_is_found_out(line: Line) -> None:
    gentl, size = line.gentl, ctypes.byref(ctypes.c_size_t(8))
    line.allocate(1)
    gentl.good("DSFlushQueue", line.stream, ALL_DISCARD)
    gentl.good("DSRevokeBuffer", line.stream, line.buffers[0], None, None)
    assert gentl.DSQueueBuffer(line.stream, line.buffers[0]) == INVALID_HANDLE
    gentl.good("DSClose", line.stream)
    assert gentl.DSQueueBuffer(line.stream, line.buffers[0]) == INVALID_HANDLE
    assert gentl.EventKill(line.event) == INVALID_HANDLE
    gentl.good("DevClose", line.device)
    assert gentl.DevClose(line.device) == INVALID_HANDLE
    assert gentl.GCReadPort(line.port, ctypes.c_uint64(WIDTH), ctypes.byref(ctypes.c_int64()), size) == INVALID_HANDLE
    assert gentl.last_error() == (INVALID_HANDLE, "this is no handle of an open port")


@pytest.mark.parametrize("handle", [0, 1, 0xDEADBEEF, 2**64 - 1])
def test_a_foreign_handle_is_found_out(line: Line, handle: int) -> None:
    gentl, foreign = line.gentl, ctypes.c_void_p(handle)
    for name in ("TLClose", "IFClose", "DevClose", "DSClose", "EventKill"):
        assert getattr(gentl, name)(foreign) == INVALID_HANDLE
    assert gentl.DevClose(line.stream) == INVALID_HANDLE  # of the wrong kind
    assert gentl.DSQueueBuffer(line.stream, line.event) == INVALID_HANDLE


def test_a_handle_never_comes_back(line: Line) -> None:
    gentl, old = line.gentl, line.device
    gentl.good("DevClose", line.device)
    new = gentl.open(line.interface, "a")
    assert new.value != old.value
    assert gentl.DevClose(old) == INVALID_HANDLE


def test_what_is_not_there_is_named(line: Line) -> None:
    gentl, nothing = line.gentl, ctypes.byref(ctypes.c_void_p())
    assert gentl.IFOpenDevice(line.interface, b"simulated:b", 4, nothing) == INVALID_ID
    assert gentl.last_error()[1] == "there is no camera simulated:b"
    assert gentl.DevOpenDataStream(line.device, b"stream1", nothing) == INVALID_ID
    assert gentl.DSGetBufferID(line.stream, 0, nothing) == INVALID_INDEX
    assert gentl.DevOpenDataStream(line.device, b"stream0", nothing) == IN_USE
    assert gentl.IFOpenDevice(line.interface, b"simulated:a", 4, nothing) == IN_USE
    assert gentl.IFOpenDevice(line.interface, None, 4, nothing) == INVALID_PARAMETER
    assert gentl.GCRegisterEvent(line.device, 5, nothing) == NOT_IMPLEMENTED
    assert gentl.DSGetNumBufferParts(line.stream, None, None) == NOT_IMPLEMENTED


def test_a_buffer_too_small_learns_the_size(line: Line) -> None:
    kind, size, text = ctypes.c_int32(), ctypes.c_size_t(0), ctypes.create_string_buffer(20)
    line.gentl.good("DevGetInfo", line.device, 0, ctypes.byref(kind), None, ctypes.byref(size))
    assert (kind.value, size.value) == (1, len(b"simulated:a\0"))
    size.value = 5
    assert line.gentl.DevGetInfo(line.device, 0, ctypes.byref(kind), text, ctypes.byref(size)) == TOO_SMALL
    assert (size.value, text.value) == (12, b"")
    line.gentl.good("DevGetInfo", line.device, 0, ctypes.byref(kind), text, ctypes.byref(size))
    assert text.value == b"simulated:a"


def test_the_camera_guards_its_registers(line: Line) -> None:
    gentl = line.gentl
    assert gentl.write(line.port, WIDTH, 12) == INVALID_VALUE
    assert gentl.write(line.port, EXPOSURE_TIME, float("nan")) == INVALID_VALUE
    assert gentl.write(line.port, PAYLOAD_SIZE, 1) == ACCESS_DENIED
    assert gentl.write(line.port, 0x5000, 1) == INVALID_ADDRESS
    assert gentl.write(line.port, WIDTH + 1, 16) == INVALID_ADDRESS
    assert gentl.write(line.device, 0, 1) == ACCESS_DENIED
    assert gentl.write(line.port, LOCKED, 1) == 0
    assert gentl.write(line.port, WIDTH, 16) == ACCESS_DENIED
    assert gentl.write(line.port, LOCKED, 0) == 0
    line.start()
    assert gentl.write(line.port, WIDTH, 16) == ACCESS_DENIED
    line.stop()
    assert gentl.write(line.port, WIDTH, 16) == 0


def test_registers_are_stacked(line: Line) -> None:
    class Entry(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("address", ctypes.c_uint64), ("buffer", ctypes.c_void_p), ("size", ctypes.c_size_t))

    values = (ctypes.c_int64 * 3)()
    entries = (Entry * 3)(
        *(Entry(address, ctypes.addressof(values) + 8 * i, 8) for i, address in enumerate((WIDTH, 0x5000, WIDTH)))
    )
    count = ctypes.c_size_t(3)
    assert line.gentl.GCReadPortStacked(line.port, entries, ctypes.byref(count)) == INVALID_ADDRESS
    assert (count.value, list(values)) == (1, [SIDE, 0, 0])


def test_buffers_move_between_the_queues(line: Line) -> None:
    line.allocate(4)
    assert line.queues() == (4, 0)
    for _ in range(2):
        line.stage.show(PICTURE, 1)
    line.start()
    assert until(lambda: line.queues() == (2, 2))
    line.stop()
    assert line.flush(INPUT_TO_OUTPUT) == (0, 4)
    error, first = line.gentl.wait(line.event, 0)
    assert error == 0
    assert line.queues() == (0, 3)
    assert line.flush(OUTPUT_DISCARD) == (0, 0)
    assert line.flush(UNQUEUED_TO_INPUT) == (4, 0)
    assert line.flush(INPUT_TO_OUTPUT) == (0, 4)
    assert line.flush(ALL_TO_INPUT) == (4, 0)
    assert line.flush(ALL_DISCARD) == (0, 0)
    assert first in [buffer.value for buffer in line.buffers]
    assert line.gentl.DSFlushQueue(line.stream, 7) == INVALID_PARAMETER


def test_a_queued_buffer_cannot_be_revoked_or_queued_again(line: Line) -> None:
    line.allocate(1)
    assert line.gentl.DSRevokeBuffer(line.stream, line.buffers[0], None, None) == BUSY
    assert line.gentl.DSQueueBuffer(line.stream, line.buffers[0]) == IN_USE


def test_memory_of_the_consumer_is_filled_in_place(line: Line) -> None:
    memory = ctypes.create_string_buffer(SIZE)
    announce = ("DSAnnounceBuffer", line.stream, memory, ctypes.c_size_t(SIZE), ctypes.c_void_p(77))
    buffer = line.gentl.handle(*announce)
    assert line.gentl.DSAnnounceBuffer(*announce[1:], ctypes.byref(ctypes.c_void_p())) == IN_USE
    line.gentl.good("DSQueueBuffer", line.stream, buffer)
    assert line.gentl.handle("DSGetBufferID", line.stream, 0).value == buffer.value
    line.gentl.write(line.port, EXPOSURE_TIME, 5000.0)
    line.stage.show(PICTURE, 1)
    line.gentl.good("DSStartAcquisition", line.stream, 0, ctypes.c_uint64(1))
    line.gentl.write(line.port, START, 1)
    assert line.gentl.wait(line.event, 5000) == (0, buffer.value)
    assert memory.raw == PICTURE.tobytes()
    given, private = ctypes.c_void_p(), ctypes.c_void_p()
    line.gentl.good("DSRevokeBuffer", line.stream, buffer, ctypes.byref(given), ctypes.byref(private))
    assert (given.value, private.value) == (ctypes.addressof(memory), 77)


def test_a_buffer_that_is_too_small_is_incomplete(line: Line) -> None:
    buffer = line.gentl.handle("DSAllocAndAnnounceBuffer", line.stream, ctypes.c_size_t(SIZE - 20), None)
    line.gentl.good("DSQueueBuffer", line.stream, buffer)
    line.stage.show(PICTURE, 1)
    line.start()
    assert line.gentl.wait(line.event, 5000)[0] == 0
    incomplete, filled, lines, larger = (
        line.gentl.number("DSGetBufferInfo", line.stream, buffer, info) for info in (7, 9, 22, 29)
    )
    assert (incomplete, filled, lines, larger) == (1, SIZE - 20, SIDE - 2, 1)


def test_an_acquisition_of_some_frames_ends(line: Line) -> None:
    line.allocate(4)
    for _ in range(4):
        line.stage.show(PICTURE, 1)
    line.start(frames=2)
    assert until(lambda: line.stage.counters.exposures == 4)
    assert line.queues() == (2, 2)
    assert line.gentl.number("DSGetInfo", line.stream, 8) == 0  # no longer grabbing


def test_a_wait_ends_in_time(line: Line) -> None:
    before = time.monotonic()
    assert line.gentl.wait(line.event, 0)[0] == TIMEOUT
    assert line.gentl.wait(line.event, 50)[0] == TIMEOUT
    assert 0.05 <= time.monotonic() - before < 5


def test_a_wait_is_killed_now_or_next_time(line: Line) -> None:
    results: list[int] = []
    waiting = threading.Thread(target=lambda: results.append(line.gentl.wait(line.event, 60_000)[0]))
    waiting.start()
    line.gentl.good("EventKill", line.event)
    waiting.join(5)
    assert results == [ABORT]
    line.gentl.good("EventKill", line.event)
    assert line.gentl.wait(line.event, 1000)[0] == ABORT
    assert line.gentl.wait(line.event, 0)[0] == TIMEOUT


@pytest.mark.parametrize("function", ["GCUnregisterEvent", "DSClose", "DevClose", "GCCloseLib"])
def test_a_wait_ends_when_what_it_waits_for_is_closed(line: Line, function: str) -> None:
    results: list[int] = []
    waiting = threading.Thread(target=lambda: results.append(line.gentl.wait(line.event, 60_000)[0]))
    waiting.start()
    time.sleep(0.05)
    arguments = {
        "GCUnregisterEvent": (line.stream, NEW_BUFFER),
        "DSClose": (line.stream,),
        "DevClose": (line.device,),
        "GCCloseLib": (),
    }
    line.gentl.good(function, *arguments[function])
    waiting.join(5)
    assert results[0] in {ABORT, INVALID_HANDLE, NOT_INITIALIZED}  # the last two where it had not begun to wait
    if function == "GCCloseLib":
        line.gentl.good("GCInitLib")


def test_closing_everything_while_it_acquires(line: Line) -> None:
    line.allocate(4)
    line.stage.show(PICTURE, 1)
    line.start()
    line.gentl.good("GCCloseLib")
    line.gentl.good("GCInitLib")
    assert line.gentl.DSClose(line.stream) == INVALID_HANDLE


def test_parents(line: Line) -> None:
    assert line.gentl.handle("DSGetParentDev", line.stream).value == line.device.value
    assert line.gentl.handle("DevGetParentIF", line.device).value == line.interface.value


def test_opening_and_closing_does_not_leak(producer: Path) -> None:
    gentl = GenTL(producer)

    def cycle() -> None:
        with gentl.interface() as interface:
            device = gentl.open(interface, "a")
            stream = gentl.handle("DevOpenDataStream", device, b"stream0")
            gentl.handle("GCRegisterEvent", stream, NEW_BUFFER)
            for _ in range(4):
                gentl.handle("DSAllocAndAnnounceBuffer", stream, ctypes.c_size_t(100_000), None)
            gentl.write(gentl.handle("DevGetPort", device), START, 1)

    with Stage("a", 400, 250, channels=1) as stage:
        for _ in range(50):
            cycle()
        before_mb = memory_mb()
        for _ in range(950):
            cycle()
        assert stage.counters.opens == 1000
        assert memory_mb() - before_mb < 5


@pytest.mark.parametrize("frames", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_frames_do_not_leak(line: Line, frames: int) -> None:
    gentl = line.gentl
    line.allocate(4)
    gentl.write(line.port, TRIGGER_MODE, 1)
    line.start()
    before_mb = 0.0
    for number in range(frames):
        if number == 1000:
            before_mb = memory_mb()
        assert gentl.write(line.port, TRIGGER, 1) == 0
        error, buffer = gentl.wait(line.event, 5000)
        assert error == 0
        gentl.good("DSQueueBuffer", line.stream, ctypes.c_void_p(buffer))
    assert line.stage.counters.delivered == frames
    assert memory_mb() - before_mb < 5
