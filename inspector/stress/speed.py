"""How fast the camera path is, and what it costs. Judges nothing."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import msgspec
import numpy as np

from inspector.bundle import Bundle
from inspector.camera.genicam import GenicamFeed
from inspector.camera.words import Link, Opened, Picture, Release, image_in
from inspector.engine import open_engine
from inspector.stress.rig import (
    HEIGHT,
    PATIENCE_S,
    WIDTH,
    Progress,
    Row,
    camera_feed,
    camera_stage,
    has_picture,
    next_frame,
)

TRIGGER_HZ = 30.0


def speed(bundle: Bundle, progress: Progress, *, seconds: float = 5.0, triggers: int = 1000) -> list[Row]:
    """Frame rate, processor time and trigger latency at 1280 x 1024; what a camera costs the inference beside it."""
    measurements: dict[str, Callable[[], Row]] = {
        "Mono8 in free run": lambda: _free_run("Mono8", seconds),
        "BGR8 in free run": lambda: _free_run("BGR8", seconds),
        "Mono8 triggered": lambda: triggered("Mono8", triggers),
        "BGR8 triggered": lambda: triggered("BGR8", triggers),
        "grey from process to process": lambda: _from_process_to_process(1),
        "RGB from process to process": lambda: _from_process_to_process(3),
        "beside inference": lambda: _beside_inference(bundle),
    }
    rows = []
    for number, (what, measure) in enumerate(measurements.items(), start=1):
        rows.append(measure())
        progress(what, number, len(measurements))
    return rows


def _free_run(pixel_format: str, seconds: float) -> Row:
    with camera_stage(), camera_feed(trigger="free-run", PixelFormat=pixel_format, ExposureTime=10.0) as feed:
        events = iter(feed)
        next_frame(events)
        before, started, frames = _processor_s(feed), time.monotonic(), 0
        lost = Counter(feed.counts)
        while time.monotonic() - started < seconds:
            frames += has_picture(next(events))
        elapsed = time.monotonic() - started
        acquisition, station = (after - first for after, first in zip(_processor_s(feed), before, strict=True))
        lost = feed.counts - lost
    return {
        "what": "free run through the whole path", "pixel_format": pixel_format, "size": [HEIGHT, WIDTH],
        "fps": frames / elapsed, "processor_ms_per_frame": {
            "acquisition": 1000 * acquisition / frames, "station": 1000 * station / frames,
        },
        "not_delivered": {what: number for what, number in lost.items() if what != "delivered"},
    }  # fmt: skip


def triggered(pixel_format: str, triggers: int) -> Row:
    """From the software trigger's exposure to the image in the station's process."""
    ages_ms: list[float] = []
    with (
        camera_stage(),
        camera_feed(trigger="software", rate_hz=TRIGGER_HZ, PixelFormat=pixel_format, ExposureTime=10.0) as feed,
    ):
        events = iter(feed)
        while len(ages_ms) < triggers:
            frame = next_frame(events)
            ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
        losses = {what: number for what, number in feed.counts.items() if what != "delivered"}
    return {
        "what": "software trigger to image in the station", "pixel_format": pixel_format, "size": [HEIGHT, WIDTH],
        "triggers": triggers, **_percentiles(ages_ms), "not_delivered": losses,
    }  # fmt: skip


def _from_process_to_process(channels: int, images: int = 200) -> Row:
    """The ring in shared memory against the image's bytes through the pipe, in turns."""
    shape = (HEIGHT, WIDTH, channels)
    station, camera = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_send_images, args=(camera, shape, images), daemon=True)
    process.start()
    opened = msgspec.msgpack.decode(station.recv_bytes(), type=Opened)
    ring, times_ms = SharedMemory(opened.memory), {"ring": [0.0] * images, "pipe": [0.0] * images}
    try:
        for index in range(images):
            picture = msgspec.msgpack.decode(station.recv_bytes(), type=Picture)
            image_in(ring, picture.slot, opened.slot_bytes, shape).copy()
            times_ms["ring"][index] = (time.monotonic_ns() - picture.captured_ns) / 1e6
            station.send_bytes(msgspec.msgpack.encode(Release(picture.ring, picture.slot)))
            message = station.recv_bytes()
            np.frombuffer(message, np.uint8, offset=8)
            times_ms["pipe"][index] = (time.monotonic_ns() - int.from_bytes(message[:8], "little")) / 1e6
    finally:
        ring.close()
        ring.unlink()
        process.join()
    return {
        "what": "image from process to process", "size": [*shape], "images": images,
        "ring": _percentiles(times_ms["ring"]), "pipe": _percentiles(times_ms["pipe"]),
    }  # fmt: skip


def _send_images(connection: Connection, shape: tuple[int, int, int], images: int) -> None:
    """Run in the sending process: each image once through the ring and once through the pipe."""
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    link = Link(connection, slots=4)
    with link.ring(image.nbytes, "", ""):
        for _ in range(images):
            sent_ns = time.monotonic_ns()
            placed = link.place(image)
            if placed is not None:
                link.send(Picture(*placed, shape, sent_ns, None))
            link.obey(PATIENCE_S)
            sent_ns = time.monotonic_ns()
            connection.send_bytes(sent_ns.to_bytes(8, "little") + image.tobytes())


def _beside_inference(bundle: Bundle, parts: int = 40, rounds: int = 3, fps: float = 30.0) -> Row:
    """Inference alone and with a camera in free run beside it, in turns: the machine is not the same for long."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    alone: list[float] = []
    beside: list[float] = []
    with open_engine("onnxruntime-cpu", bundle) as engine:

        def infer(times: list[float]) -> None:
            for _ in range(parts // rounds):
                started = time.perf_counter()
                engine.infer(image)
                times.append((time.perf_counter() - started) * 1000)

        for _ in range(rounds):
            infer(alone)
            with (
                camera_stage(),
                camera_feed(trigger="free-run", rate_hz=fps, PixelFormat="BGR8", ExposureTime=1000.0) as feed,
                _drained(feed),
            ):
                infer(beside)
    return {
        "what": f"inference with a camera of {fps:.0f} frames a second beside it", "alone": _percentiles(alone),
        "beside": _percentiles(beside), "ratio_p50": float(np.median(beside) / np.median(alone)),
    }  # fmt: skip


@contextmanager
def _drained(feed: GenicamFeed) -> Iterator[None]:
    """Take frames in a thread, so that the camera's path stays busy."""
    ended = Flag()

    def drain() -> None:
        for _ in feed:
            if ended.is_set():
                return

    thread = Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _processor_s(feed: GenicamFeed) -> tuple[float, float]:
    """User and system time of the acquisition process and of this one."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{feed.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks, time.process_time()


def _percentiles(milliseconds: list[float]) -> dict[str, float | None]:
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9]).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "p999_ms": p999 if len(milliseconds) >= 1000 else None}
