"""Consumers of the simulated camera: harvesters, raw GenTL by ctypes, and both in a process that may hang or die."""

import ctypes
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

with warnings.catch_warnings():  # theirs, at import: SWIG types without a module, and a filter of their own
    warnings.simplefilter("ignore")
    from genicam import genapi, gentl
    from harvesters.core import Harvester, ImageAcquirer

REFUSED = genapi.GenericException  # by the camera's description, before the camera is asked
LOCKED = genapi.AccessException
ROOT = Path(__file__).parents[3]


@contextmanager
def harvester(producer: Path) -> Iterator[Harvester]:
    """A consumer that has listed the cameras."""
    with Harvester() as consumer:
        consumer.add_file(str(producer))
        consumer.update()
        yield consumer


@contextmanager
def acquirer(producer: Path, serial: str, buffers: int = 8) -> Iterator[ImageAcquirer]:
    """One camera, open."""
    with harvester(producer) as consumer, opened(consumer, serial, buffers) as camera:
        yield camera


@contextmanager
def opened(consumer: Harvester, serial: str, buffers: int = 8) -> Iterator[ImageAcquirer]:
    camera = consumer.create({"serial_number": serial})
    camera.num_buffers = buffers
    try:
        yield camera
    finally:
        camera.destroy()


def configure(camera: ImageAcquirer, **features: object) -> None:
    for name, value in features.items():
        getattr(camera.remote_device.node_map, name).value = value


def fetched(camera: ImageAcquirer, timeout: float = 5) -> np.ndarray | None:
    """The samples of the next frame, copied; None when it was incomplete or none came."""
    buffer = camera.try_fetch(timeout=timeout)
    if buffer is None:
        return None
    samples = buffer.payload.components[0].data.copy()
    buffer.queue()
    return samples


def frame_ids(camera: ImageAcquirer, count: int) -> list[int]:
    ids = []
    for _ in range(count):
        buffer = camera.try_fetch(timeout=5)
        ids.append(buffer.frame_id)
        buffer.queue()
    return ids


def abandon(camera: ImageAcquirer) -> None:
    """Tear down a camera that is gone: harvesters' own way raises half-way and leaves everything busy."""
    with suppress(Exception):
        camera.stop()
    for stream in camera.data_streams:
        for step in (
            lambda stream=stream: stream.stop_acquisition(gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL),
            lambda stream=stream: stream.flush_buffer_queue(gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD),
        ):
            with suppress(Exception):
                step()
    camera.destroy()


def until(condition: Callable[[], bool], timeout_s: float = 5) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that knows this module, in a process of its own, which may die."""
    with started(script, *arguments) as running:
        output, errors = running.communicate(timeout=60)
    return subprocess.CompletedProcess(running.args, running.returncode, output, errors)


@contextmanager
def started(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script that knows this module, in a process of its own, which may hang and does not outlive this."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from tests.inspector.gentl.client import *\n" + script,
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:  # noqa: S603
        try:
            yield running
        finally:
            running.kill()


class GenTL:
    """The producer's functions as they are: each returns the error code. `handle`, `number` and so on must succeed."""

    def __init__(self, producer: Path) -> None:
        self.library = ctypes.CDLL(str(producer))

    def __getattr__(self, name: str) -> Callable[..., int]:
        return getattr(self.library, name)

    def good(self, name: str, *arguments: object) -> None:
        """Call what must succeed."""
        error = getattr(self.library, name)(*arguments)
        assert error == 0, f"{name}: {error} {self.last_error()}"

    def handle(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """What a function puts into its last argument."""
        handle = ctypes.c_void_p()
        self.good(name, *arguments, ctypes.byref(handle))
        return handle

    def last_error(self) -> tuple[int, str]:
        code, text, size = ctypes.c_int32(), ctypes.create_string_buffer(256), ctypes.c_size_t(256)
        self.library.GCGetLastError(ctypes.byref(code), text, ctypes.byref(size))
        return code.value, text.value.decode()

    def number(self, name: str, *arguments: object) -> int:
        """An info command's number, of whatever type."""
        kind, value, size = ctypes.c_int32(), ctypes.c_uint64(), ctypes.c_size_t(8)
        self.good(name, *arguments, ctypes.byref(kind), ctypes.byref(value), ctypes.byref(size))
        return value.value

    @contextmanager
    def interface(self) -> Iterator[ctypes.c_void_p]:
        """The library initialised, its system and interface open, its cameras listed."""
        self.good("GCInitLib")
        try:
            system = self.handle("TLOpen")
            self.good("TLUpdateInterfaceList", system, None, ctypes.c_uint64(0))
            interface = self.handle("TLOpenInterface", system, b"stages")
            self.good("IFUpdateDeviceList", interface, None, ctypes.c_uint64(0))
            yield interface
        finally:
            self.good("GCCloseLib")

    def open(self, interface: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        """The device of the stage of this name, for us alone."""
        return self.handle("IFOpenDevice", interface, f"simulated:{name}".encode(), 4)

    def write(self, port: ctypes.c_void_p, address: int, value: int | float) -> int:
        """Write a register of 64 bit; returns the error code."""
        register = ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)
        return int(
            self.library.GCWritePort(
                port, ctypes.c_uint64(address), ctypes.byref(register), ctypes.byref(ctypes.c_size_t(8))
            )
        )

    def read(self, port: ctypes.c_void_p, address: int) -> int:
        register = ctypes.c_int64()
        self.good(
            "GCReadPort", port, ctypes.c_uint64(address), ctypes.byref(register), ctypes.byref(ctypes.c_size_t(8))
        )
        return register.value

    def wait(self, event: ctypes.c_void_p, timeout_ms: int) -> tuple[int, int]:
        """EventGetData: the error code and the buffer's handle."""
        data, size = (ctypes.c_uint64 * 2)(), ctypes.c_size_t(16)
        error = self.library.EventGetData(event, data, ctypes.byref(size), ctypes.c_uint64(timeout_ms))
        return error, data[0]


def memory_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
