"""The demo's line: a real station process inspects simulated parts, and its verdicts are set against the truth."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Semaphore, Thread

import numpy as np
from rich.console import Console
from rich.text import Text

from inspector.bus import Gap, Subscriber
from inspector.camera import CameraError
from inspector.camera.gentl import producer_file
from inspector.camera.gentl.stage import Stage
from inspector.camera.settings import GenicamCamera
from inspector.camera.simulator import SimulatedLine
from inspector.inspection import Verdict
from inspector.messages import Result
from inspector.simulate import pass_by
from inspector.station import Station
from inspector.station_file import load_station
from inspector.watch import verdict_line

POLL_MS = 200
SERIAL = "KIT-TRAY"
PATIENCE_S = 60.0  # without a verdict
AHEAD = 2  # parts that may be on their way through the station

STATION = """\
# The demo's station, on the bundle that the demo trained.
name = "demo"
engine = "onnxruntime-cpu"
deadline_ms = 5000

[camera]
{camera}
[recipe]
name = "kit tray"
bundle = "{bundle}"
"""
GENICAM = """\
# The simulated GenICam camera, through harvesters as a real one. The demo moves the line in front of it; to move it
# yourself: inspector simulate --name {serial} --rate {rate_hz} --fault-rate {fault_rate} --seed {seed}
kind = "genicam"
producer = "simulator"
serial = "{serial}"
trigger = "hardware"
"""
SIMULATOR = """\
# The rendered line without a camera: there is no C compiler here to build the simulated one with.
kind = "simulator"
rate_hz = {rate_hz}
fault_rate = {fault_rate}
seed = {seed}
parts = {parts}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What passes in front of the demo's camera."""

    rate_hz: float = 2.0
    fault_rate: float = 0.3
    seed: int = 7
    parts: int = 40


class DemoError(Exception):
    """The demo's station did not do its work; the text says what to look at."""


@dataclass
class Tally:
    """Verdicts against the truth."""

    latencies_ms: list[float] = field(default_factory=list)
    accepted: int = 0
    rejected: int = 0
    faults: int = 0
    missed: int = 0  # anomalous, accepted
    false_rejects: int = 0  # good, rejected

    def add(self, result: Result, fault: str | None) -> None:
        """Count one verdict; `fault` is what is wrong with the part, None when it is good."""
        self.latencies_ms.append(sum(result.timings.values()))
        self.accepted += result.verdict is Verdict.ACCEPT
        self.rejected += result.verdict is Verdict.REJECT
        self.faults += result.verdict is Verdict.FAULT
        self.missed += result.verdict is Verdict.ACCEPT and fault is not None
        self.false_rejects += result.verdict is Verdict.REJECT and fault is None

    def __str__(self) -> str:
        """The summary, one line."""
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        return (
            f"{len(self.latencies_ms)} parts: {self.accepted} accepted, {self.rejected} rejected, {self.faults} not "
            f"inspected; {self.missed} missed, {self.false_rejects} false rejects; "
            f"exposure to verdict p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        )


def write_station(folder: Path, *, bundle: Path, line: Line) -> Path:
    """Write the demo's station.toml: with the simulated GenICam camera, or without where it cannot be built."""
    try:
        producer_file()
    except CameraError:
        camera = SIMULATOR.format(**asdict(line))
    else:
        camera = GENICAM.format(serial=SERIAL, **asdict(line))
    path = folder / "station.toml"
    path.write_text(STATION.format(camera=camera, bundle=bundle.name), encoding="utf-8")
    return path


def run_line(station_file: Path, line: Line, console: Console) -> Tally:
    """Start `inspector run` on the station and print its verdicts beside the truth, until all parts have passed.

    Raises:
        DemoError: the station failed, or some part got no verdict.
    """
    station = load_station(station_file)
    simulated = SimulatedLine(rate_hz=line.rate_hz, fault_rate=line.fault_rate, seed=line.seed)
    tally, permits = Tally(), Semaphore(AHEAD)
    moving = _moving(line, simulated, permits) if isinstance(station.camera, GenicamCamera) else nullcontext()
    with moving:
        for result in _results(station, station_file, line.parts):
            permits.release()
            fault = simulated.fault(result.sequence)
            tally.add(result, fault)
            wrong = (result.verdict is Verdict.ACCEPT) is not (fault is None)
            truth = Text(f"  {fault or 'good'}", style="yellow" if wrong else "dim")
            console.print(verdict_line(result) + truth, soft_wrap=True)
    return tally


@contextmanager
def _moving(line: Line, simulated: SimulatedLine, permits: Semaphore) -> Iterator[None]:
    """The line moves in front of the simulated camera, never further ahead of the verdicts than there are permits."""
    ended = Event()
    first = simulated.picture(0)
    height, width, channels = first.shape
    with Stage(SERIAL, width, height, channels=channels, serial=SERIAL) as stage:
        mover = Thread(
            target=pass_by,
            args=(stage, (simulated.picture(number) for number in range(line.parts))),
            kwargs={"rate_hz": line.rate_hz, "stop": ended.is_set, "permit": lambda: permits.acquire(blocking=False)},
        )
        mover.start()
        try:
            yield
        finally:
            ended.set()
            mover.join()


def _results(station: Station, station_file: Path, parts: int) -> Iterator[Result]:
    command = [sys.executable, "-m", "inspector.cli", "run", "--station", str(station_file)]
    with (
        Subscriber(station.bus, ("result",)) as subscriber,
        subprocess.Popen(  # noqa: S603 - this very interpreter
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            heard = time.monotonic()
            seen = 0
            while seen < parts:
                message = subscriber.receive(POLL_MS)
                if isinstance(message, Gap):
                    raise DemoError(f"results {message.first} to {message.last} never arrived")
                if isinstance(message, Result):
                    heard = time.monotonic()
                    seen += 1
                    yield message
                elif process.poll() is not None or time.monotonic() - heard > PATIENCE_S:
                    process.terminate()
                    said = process.communicate()[1].strip()
                    raise DemoError(f"the station ended after {seen} of {parts} parts; it said: {said or 'nothing'}")
        finally:
            process.terminate()
