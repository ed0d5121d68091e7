"""The demo's line: a real station process inspects simulated parts, and its verdicts are set against the truth."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from inspector.bus import Gap, Subscriber
from inspector.camera.simulator import SimulatedLine
from inspector.inspection import Verdict
from inspector.messages import Result
from inspector.station import SimulatedCamera, Station, load_station
from inspector.watch import verdict_line

POLL_MS = 200
PATIENCE_S = 60.0  # without a verdict

STATION = """\
# The demo's station: the simulated line and the bundle that the demo trained.
name = "demo"
engine = "onnxruntime-cpu"
deadline_ms = 5000

[camera]
kind = "simulator"
rate_hz = {rate_hz}
fault_rate = {fault_rate}
seed = {seed}
parts = {parts}

[recipe]
name = "kit tray"
bundle = "{bundle}"
"""


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


def write_station(folder: Path, *, bundle: Path, rate_hz: float, fault_rate: float, seed: int, parts: int) -> Path:
    """Write the demo's station.toml."""
    path = folder / "station.toml"
    text = STATION.format(rate_hz=rate_hz, fault_rate=fault_rate, seed=seed, parts=parts, bundle=bundle.name)
    path.write_text(text, encoding="utf-8")
    return path


def run_line(station_file: Path, console: Console) -> Tally:
    """Start `inspector run` on the station and print its verdicts beside the truth, until its line ends.

    Raises:
        DemoError: the station failed, or some part got no verdict.
    """
    station = load_station(station_file)
    camera = station.camera
    if not isinstance(camera, SimulatedCamera) or camera.parts is None:
        raise DemoError(f"{station_file}: the demo needs a simulated camera that ends after some parts")
    line = SimulatedLine(rate_hz=camera.rate_hz, fault_rate=camera.fault_rate, seed=camera.seed, parts=camera.parts)
    tally = Tally()
    for result in _results(station, station_file, camera.parts):
        fault = line.truth(result.part_id)
        tally.add(result, fault)
        wrong = (result.verdict is Verdict.ACCEPT) is not (fault is None)
        truth = Text(f"  {fault or 'good'}", style="yellow" if wrong else "dim")
        console.print(verdict_line(result) + truth, soft_wrap=True)
    return tally


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
