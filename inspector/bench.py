"""Measures the real loop with a bundle: from a frame's exposure to its verdict in another process."""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from inspector.bundle import Bundle
from inspector.bus import Gap, Publisher, Subscriber
from inspector.engine import Engine, open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Frame, Image
from inspector.messages import Result
from inspector.run import inspect
from inspector.service import Service
from inspector.station import Bus, EngineName
from inspector.summary import Summary

WARM_UP_PARTS = 10
DISTINCT_IMAGES = 8
SHORTEST_FOR_P999 = 1000
PATIENCE_S = 30

Row = dict[str, "str | float | list[int] | dict[str, dict[str, float | None]] | None"]


class BenchError(Exception):
    """The measurement is not valid; the text says why."""


def bench(
    bundle: Bundle,
    *,
    parts: int = 200,
    engines: tuple[EngineName, ...] = ("onnxruntime-cpu",),
    precision: str = "fp32",
    profile: str | None = None,
    frame_size: tuple[int, int] = (1024, 1280),
) -> list[Row]:
    """Measure each engine in turn, one frame at a time, back to back.

    `p..._ms` is from exposure to the verdict's arrival in a subscribing process; `start_ms` from opening the engine to
    its passed self-test; `stages` are the loop's own. p99.9 needs 1000 parts and is None with fewer. The bundle's own
    frame size goes before frame_size, where it has one.

    Raises:
        BenchError: verdicts got lost on the way.
        EngineError: an engine cannot run here.
    """
    spec = bundle.manifest.input
    size = (spec.height or frame_size[0], spec.width or frame_size[1])
    return [
        _measure(name, bundle, parts, size)
        | {"precision": precision, "profile": profile or bundle.manifest.training.method}
        for name in engines
    ]


@dataclass
class _Source:
    """Frames that are ready the moment that the loop asks: noise, as the network's speed does not depend on content."""

    size: tuple[int, int]
    channels: int
    images: list[Image] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        shape = (*self.size, self.channels)
        self.images = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(DISTINCT_IMAGES)]

    def frames(self, parts: int) -> Iterator[Frame]:
        for sequence in range(parts):
            image = self.images[sequence % DISTINCT_IMAGES]
            yield Frame(sequence, f"bench-{sequence}", image, time.monotonic_ns())


def _measure(name: EngineName, bundle: Bundle, parts: int, size: tuple[int, int]) -> Row:
    started_ns = time.monotonic_ns()
    with open_engine(name, bundle) as engine:
        start_ms = (time.monotonic_ns() - started_ns) / 1e6
        job = Job("bench", bundle.manifest.bundle_id, engine.name, bundle.manifest.threshold.value, deadline_ms=1e9)
        source = _Source(size, bundle.manifest.input.channels)
        latencies_ms, seconds, summary = _run_loop(engine, job, source, parts)
    p50, p95, p99, p999 = np.percentile(latencies_ms, [50, 95, 99, 99.9]).tolist()
    return {
        "engine": engine.name,
        "frame": list(size),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "p999_ms": p999 if parts >= SHORTEST_FOR_P999 else None,
        "fps": parts / seconds,
        "stages": summary.stages(),
        "rss_mb": _rss_mb(),
        "start_ms": start_ms,
    }


def _run_loop(engine: Engine, job: Job, source: _Source, parts: int) -> tuple[list[float], float, Summary]:
    with tempfile.TemporaryDirectory(prefix="inspector-bench-") as folder:
        bus = Bus.model_validate({topic: f"ipc://{folder}/{topic}" for topic in Bus.model_fields})
        with Publisher(bus, "bench") as publisher, Heartbeat(publisher, Service()) as heartbeat:
            context = multiprocessing.get_context("spawn")
            answers, child_end = context.Pipe(duplex=False)
            receiver = context.Process(target=_receive, args=(bus, parts, child_end), daemon=True)
            receiver.start()
            child_end.close()
            try:
                if not publisher.listeners("result", timeout_ms=PATIENCE_S * 1000):
                    raise BenchError(f"the receiving process did not subscribe within {PATIENCE_S} s: try again")
                inspect(source.frames(WARM_UP_PARTS), engine, job, publisher, heartbeat)
                started_ns = time.monotonic_ns()
                summary = inspect(source.frames(parts), engine, job, publisher, heartbeat)
                seconds = (time.monotonic_ns() - started_ns) / 1e9
                return _answer(answers), seconds, summary
            finally:
                receiver.terminate()
                receiver.join()
                receiver.close()
                answers.close()


def _answer(answers: Connection) -> list[float]:
    try:
        if answers.poll(PATIENCE_S):
            latencies_ms: list[float] = answers.recv()
            return latencies_ms
    except EOFError:
        pass
    raise BenchError("verdicts got lost on their way to the receiving process: the machine is overloaded, try again")


def _receive(bus: Bus, parts: int, answers: Connection) -> None:
    """Run in the receiving process: take every verdict's age on arrival; the monotonic clock is the machine's."""
    latencies_ms: list[float] = []
    with Subscriber(bus, ("result",)) as subscriber:
        while len(latencies_ms) < WARM_UP_PARTS + parts:
            message = subscriber.receive(PATIENCE_S * 1000)
            if message is None or isinstance(message, Gap):
                sys.exit(1)
            if isinstance(message, Result):
                latencies_ms.append((time.monotonic_ns() - message.captured_ns) / 1e6)
    answers.send(latencies_ms[WARM_UP_PARTS:])


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
