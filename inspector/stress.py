"""What the camera path bears: speed, a long soak, and cameras that are lost. Measured through the whole path."""

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import TypeAlias

import msgspec
import numpy as np

from inspector.bundle import Bundle
from inspector.camera import Event, Outage
from inspector.camera.genicam import HANGING_S, GenicamFeed
from inspector.camera.gentl.stage import Stage
from inspector.camera.words import Link, Opened, Picture, Release, image_in
from inspector.engine import open_engine
from inspector.inspection import Frame, Image
from inspector.station import SIMULATED_PRODUCER, GenicamCamera

WIDTH, HEIGHT = 1280, 1024
SERIAL = "STRESS"
TRIGGER_HZ = 30.0
SOAK_HZ = 500.0
FRAMES_BETWEEN = 3  # the first one, and what is on its way
MOST_GROWTH_MB = 20.0  # of resident memory in a million frames
PATIENCE_S = 60.0
Progress: TypeAlias = Callable[[str, int, int], None]
Row: TypeAlias = dict[str, object]
_PAGE = resource.getpagesize()


class StressError(Exception):
    """The camera path did not do what it must; the text says what."""


# ------------------------------------------------------------------------------------------------ speed


def speed(bundle: Bundle, progress: Progress, *, seconds: float = 5.0, triggers: int = 1000) -> list[Row]:
    """Frame rate, processor time and trigger latency at 1280 x 1024; what a camera costs the inference beside it."""
    measurements: dict[str, Callable[[], Row]] = {
        "Mono8 in free run": lambda: _free_run("Mono8", seconds),
        "BGR8 in free run": lambda: _free_run("BGR8", seconds),
        "Mono8 triggered": lambda: _triggered("Mono8", triggers),
        "BGR8 triggered": lambda: _triggered("BGR8", triggers),
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
    with _stage(), _feed(trigger="free-run", PixelFormat=pixel_format, ExposureTime=10.0) as feed:
        events = iter(feed)
        _next_frame(events)
        before, started, frames = _processor_s(feed), time.monotonic(), 0
        lost = Counter(feed.counts)
        while time.monotonic() - started < seconds:
            frames += _has_picture(next(events))
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


def _triggered(pixel_format: str, triggers: int) -> Row:
    """From the software trigger's exposure to the image in the station's process."""
    ages_ms: list[float] = []
    with _stage(), _feed(trigger="software", rate_hz=TRIGGER_HZ, PixelFormat=pixel_format, ExposureTime=10.0) as feed:
        events = iter(feed)
        while len(ages_ms) < triggers:
            frame = _next_frame(events)
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
                _stage(),
                _feed(trigger="free-run", rate_hz=fps, PixelFormat="BGR8", ExposureTime=1000.0) as feed,
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


# ------------------------------------------------------------------------------------------------ soak


@dataclass
class Memory:
    """Resident memory of a process over frames."""

    frames: list[int] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)

    def add(self, frames: int, pid: int) -> None:
        """Take a sample."""
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        self.frames.append(frames)
        self.mb.append(pages * _PAGE / 2**20)

    def growth_mb_per_million(self) -> float:
        """Slope of a straight line through the second half of the samples: a start needs memory once."""
        half = len(self.frames) // 2
        return float(np.polyfit(self.frames[half:], self.mb[half:], 1)[0] * 1e6)


def soak(frames: int, progress: Progress) -> Row:
    """Run the path for so many frames, some of them lost or incomplete, and account for each by the camera's truth.

    Raises:
        StressError: a frame is not accounted for, or memory grows.
    """
    memory = {"acquisition": Memory(), "station": Memory()}
    with (
        _stage(640, 480, incomplete_every=997, drop_every=1009) as stage,
        _feed(trigger="free-run", rate_hz=SOAK_HZ, PixelFormat="Mono8", ExposureTime=10.0) as feed,
    ):
        started, parts = time.monotonic(), 0
        for event in feed:
            if isinstance(event, Outage) and not stage.stalled:
                raise StressError(f"the camera was lost: {event.reason}")
            if isinstance(event, Frame):
                parts += 1
                if parts % 1000 == 0:
                    progress("frames", min(parts, frames), frames)
                    memory["acquisition"].add(parts, feed.pid)
                    memory["station"].add(parts, os.getpid())
                if parts == frames:
                    stage.stalled = True  # what was exposed until now is still on its way
            elif stage.stalled:
                break
        elapsed, counts, after = time.monotonic() - started, feed.counts, stage.counters
    truth = {key: getattr(after, key) for key in ("exposures", "incomplete", "dropped", "underruns")}
    growth = {who: of.growth_mb_per_million() for who, of in memory.items()}
    _judge(parts, counts, truth, growth)
    return {
        "what": "soak", "parts": parts, "seconds": elapsed, "fps": parts / elapsed, "counts": dict(counts),
        "camera": truth, "rss_growth_mb_per_million_frames": growth,
        "rss_mb": {who: of.mb[-1] for who, of in memory.items()},
    }  # fmt: skip


def _judge(parts: int, counts: Counter[str], truth: dict[str, int], growth: dict[str, float]) -> None:
    """What the station saw against what happened; the frame that showed that the camera is there is no part."""
    lost = truth["dropped"] + truth["underruns"]
    known = {"parts": (parts, truth["exposures"]), "incomplete": (counts["incomplete"], truth["incomplete"])}
    known["lost"] = (counts["lost"], lost)
    for what, (seen, happened) in known.items():
        if abs(seen - happened) > FRAMES_BETWEEN:
            raise StressError(f"{what}: {seen} seen, {happened} in truth ({dict(counts)}, {truth})")
    for who, per_million in growth.items():
        if per_million > MOST_GROWTH_MB:
            raise StressError(f"the memory of the {who} process grows by {per_million:.1f} MB in a million frames")


# ------------------------------------------------------------------------------------------------ loss

FAULTS: dict[str, Callable[[Stage, bool], None]] = {
    "unplugged": lambda stage, on: setattr(stage, "present", not on),
    "stalled": lambda stage, on: setattr(stage, "stalled", on),
    "hanging": lambda stage, on: setattr(stage, "hang", on),
    "crashed": lambda stage, on: setattr(stage, "abort", on),
}


AWAY_S = {
    "unplugged": 0.5,
    "stalled": 0.5,
    "hanging": HANGING_S + 0.5,  # so long that its process is killed
    "crashed": 0.0,  # which leaves the camera where it was
}


def loss(cycles: int, progress: Progress) -> list[Row]:
    """Lose the camera again and again, in each of the ways of `FAULTS` in turn, and get it back.

    A frame that comes while the camera is away, or one that shows a part twice or none, is a verdict invented.

    Raises:
        StressError: a verdict was invented, or the camera did not come back.
    """
    times: dict[str, dict[str, list[float]]] = {kind: {"noticed": [], "back": []} for kind in FAULTS}
    with _stage(64, 48, numbered=True) as stage, _feed(trigger="free-run", rate_hz=50, PixelFormat="Mono8") as feed:
        events, seen = iter(feed), _Seen()
        for cycle_number, kind in zip(range(cycles), cycle(FAULTS), strict=False):
            progress("losses", cycle_number, cycles)
            seen.add(_next_frame(events))
            noticed_s, back_s = _lose(FAULTS[kind], stage, events, seen, AWAY_S[kind])
            times[kind]["noticed"].append(noticed_s)
            times[kind]["back"].append(back_s)
        progress("losses", cycles, cycles)
        counts = dict(feed.counts)
    return [
        {
            "what": f"camera {kind}", "cycles": len(found["back"]), "invented_verdicts": 0,
            "noticed_s": _quartiles(found["noticed"]), "back_s": _quartiles(found["back"]), "counts": counts,
        }
        for kind, found in times.items() if found["back"]
    ]  # fmt: skip


class _Seen:
    """Which parts have been seen: each at most once, in their order."""

    def __init__(self) -> None:
        self._last = -1
        self._sequence = -1

    def add(self, frame: Frame) -> None:
        part = int.from_bytes(frame.image.tobytes()[:4], "little")
        if part <= self._last or frame.sequence <= self._sequence:
            raise StressError(f"part {part} came after {self._last}: a picture was shown twice")
        self._last, self._sequence = part, frame.sequence


def _lose(
    fault: Callable[[Stage, bool], None], stage: Stage, events: Iterator[Event], seen: _Seen, away_s: float
) -> tuple[float, float]:
    """One loss; how long until it was noticed, and from the camera's return to its first frame."""
    fault(stage, True)
    lost_at = time.monotonic()
    while not isinstance(event := next(events), Outage):
        if _has_picture(event) and isinstance(event, Frame):
            seen.add(event)  # exposed before the loss
        _require(time.monotonic() - lost_at < PATIENCE_S, "the loss was not noticed")
    noticed_s = time.monotonic() - lost_at
    while time.monotonic() - lost_at < noticed_s + away_s:
        _require(isinstance(next(events), Outage), "something came while the camera was away")
    fault(stage, False)
    back_at = time.monotonic()
    while not _has_picture(event := next(events)):
        _require(time.monotonic() - back_at < PATIENCE_S, "the camera did not come back")
    if isinstance(event, Frame):
        seen.add(event)
    return noticed_s, time.monotonic() - back_at


# ------------------------------------------------------------------------------------------------ common


@contextmanager
def _stage(width: int = WIDTH, height: int = HEIGHT, *, numbered: bool = False, **switches: int) -> Iterator[Stage]:
    """A camera with parts in front of it as fast as it takes them; numbered ones carry their number in their pixels."""
    ended = Flag()
    with Stage(SERIAL, width, height, serial=SERIAL) as stage:
        for name, value in switches.items():
            setattr(stage, name, value)
        feeder = Thread(target=_show_parts, args=(stage, (height, width, 3), numbered, ended))
        feeder.start()
        try:
            yield stage
        finally:
            ended.set()
            feeder.join()


def _show_parts(stage: Stage, shape: tuple[int, int, int], numbered: bool, ended: Flag) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    for number in count():
        picture: Image = pictures[number % len(pictures)]
        if numbered:
            picture[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)[:, np.newaxis]
        while not stage.show(picture, timeout_s=0.1):
            if ended.is_set():
                return


@contextmanager
def _feed(*, trigger: str, rate_hz: float | None = None, **features: object) -> Iterator[GenicamFeed]:
    config = GenicamCamera.model_validate(
        {
            "kind": "genicam", "producer": SIMULATED_PRODUCER, "serial": SERIAL, "trigger": trigger,
            "rate_hz": rate_hz, "features": features,
        }
    )  # fmt: skip
    with GenicamFeed(config) as feed:
        yield feed


def _has_picture(event: Event) -> bool:
    return isinstance(event, Frame) and event.image.size > 0


def _next_frame(events: Iterator[Event]) -> Frame:
    until = time.monotonic() + PATIENCE_S
    for event in events:
        if isinstance(event, Frame) and event.image.size:
            return event
        _require(time.monotonic() < until, f"no frame within {PATIENCE_S:.0f} s")
    raise StressError("the camera ended")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise StressError(otherwise)


def _processor_s(feed: GenicamFeed) -> tuple[float, float]:
    """User and system time of the acquisition process and of this one."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{feed.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks, time.process_time()


def _percentiles(milliseconds: list[float]) -> dict[str, float | None]:
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9]).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "p999_ms": p999 if len(milliseconds) >= 1000 else None}


def _quartiles(seconds: list[float]) -> dict[str, float]:
    return {"median": float(np.median(seconds)), "longest": max(seconds)}
