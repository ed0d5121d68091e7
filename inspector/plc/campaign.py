"""From a PLC's trigger to its result, measured where the PLC is; station and bridge in processes of their own."""

import multiprocessing
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from pymodbus.client import ModbusTcpClient

from inspector.bundle import Bundle
from inspector.bus import Publisher
from inspector.camera.folder import FolderReplay
from inspector.capture import write_whole
from inspector.control import ControlServer
from inspector.decisions import DecisionServer, Outbox
from inspector.engine import open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Image, Prediction, Verdict
from inspector.journal import Journal, read_all
from inspector.plc import Command, Outcome, PlcInputs, PlcPortError, StatusBit
from inspector.plc.registers import OUTPUT_REGISTERS, outputs_checked, words_from_plc
from inspector.run import inspect
from inspector.service import Service
from inspector.station import Station, load_station, plc_of

PATIENCE_S = 60.0
REJECTED_EVERY = 3  # of the images, so that both verdicts are passed on
SIDE = 256

STATION = """\
name = "measured"
deadline_ms = 10000
journal = "journal.sqlite"
camera = {{ kind = "folder", folder = "images", trigger = "software" }}
recipe = {{ name = "measured", bundle = "{bundle}" }}
plc = {{ protocol = "modbus", port = {port} }}
"""


class CampaignError(Exception):
    """A result was wrong or did not come; the text says which."""


class FixedDelay:
    """Takes the place of the engine while the path around it is measured: bright images are rejected, after a delay."""

    name = "fixed delay"

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def infer(self, image: Image) -> Prediction:
        """Wait, and tell dark images from bright ones."""
        time.sleep(self._delay_s)
        return Prediction(float(image[0, 0, 0] > 127), np.zeros((8, 8), np.float32), {})


def latency(
    parts: int, progress: Callable[[str, int, int], None], *, delay_ms: float = 20.0, bundle: Bundle | None = None
) -> dict[str, object]:
    """Trigger so many parts one after the other, and time each from the write of its trigger to its valid result.

    Args:
        parts: how many.
        progress: told about every hundredth part.
        delay_ms: of the inference, where there is no bundle.
        bundle: inspected by with the real engine.

    Raises:
        CampaignError: a result is not that of its part, or a pass has no accept in the journal.
    """
    times_ms: list[float] = []
    outcomes: Counter[str] = Counter()
    passed: set[str] = set()
    with _station(delay_ms, bundle) as station, _bridge(station), _client(station) as client:
        plc = _Plc(client)
        plc.until_ready()
        for number in range(parts):
            part_id = f"PART-{number:08d}"
            outcome, elapsed_ms = plc.inspect(part_id)
            times_ms.append(elapsed_ms)
            outcomes[outcome.name] += 1
            if outcome is Outcome.OK:
                passed.add(part_id)
            if (number + 1) % max(parts // 100, 1) == 0:
                progress("parts", number + 1, parts)
        journal = station.journal
        accepted = {found.part_id for _, found in read_all(journal) if found.verdict is Verdict.ACCEPT}
        decisions = sum(1 for _ in read_all(journal))
    if not passed <= accepted or decisions != parts:
        raise CampaignError(
            f"{len(passed - accepted)} passed without an accept; {decisions} decisions of {parts} parts"
        )
    p50, p99, p999 = np.percentile(times_ms, [50, 99, 99.9]).tolist()
    return {
        "what": "trigger to result at the PLC, over Modbus", "parts": parts,
        "inference": f"fixed delay of {delay_ms:g} ms" if bundle is None else bundle.manifest.bundle_id,
        "p50_ms": p50, "p99_ms": p99, "p999_ms": p999 if parts >= 1000 else None, "outcomes": dict(outcomes),
        "passes_without_a_journalled_accept": 0, "lost_decisions": 0,
    }  # fmt: skip


class _Plc:
    """A PLC's program, as fast as the line allows."""

    def __init__(self, client: ModbusTcpClient) -> None:
        self._client = client
        self._written = PlcInputs(command=Command.ENABLE)

    def until_ready(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self._read()[1] & StatusBit.READY:
            self._write()
            time.sleep(0.02)
            if time.monotonic() > until:
                raise CampaignError("the station does not become ready")

    def inspect(self, part_id: str) -> tuple[Outcome, float]:
        """One part; its result and the milliseconds from the trigger's write to it."""
        sequence = self._written.trigger_seq % 0xFFFF + 1
        self._write(part_id=part_id)
        started = time.monotonic()
        self._write(trigger_seq=sequence)
        while (words := self._read())[5] != sequence or not words[1] & StatusBit.RESULT_VALID:
            if time.monotonic() - started > PATIENCE_S:
                raise CampaignError(f"part {part_id} has no result: {words}")
            if time.monotonic() - started > 0.5:  # a heartbeat
                self._write()
        elapsed_ms = (time.monotonic() - started) * 1000
        self._write(result_ack_seq=sequence)
        return Outcome(words[6]), elapsed_ms

    def _write(self, **changes: object) -> None:
        heartbeat = (self._written.heartbeat + 1) & 0xFFFF
        self._written = replace(self._written, heartbeat=heartbeat, **changes)  # type: ignore[arg-type]
        if self._client.write_registers(0, words_from_plc(self._written)).isError():
            raise PlcPortError("the bridge refuses the PLC's registers")

    def _read(self) -> list[int]:
        found = self._client.read_input_registers(0, count=OUTPUT_REGISTERS)
        if found.isError() or not outputs_checked(found.registers):
            raise PlcPortError("the bridge's registers cannot be read")
        return list(found.registers)


@contextmanager
def _station(delay_ms: float, bundle: Bundle | None) -> Iterator[Station]:
    """A station's loop in a process of its own, on images that are asked for."""
    with tempfile.TemporaryDirectory(prefix="inspector-plc-") as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for number in range(2 * REJECTED_EVERY):
            grey = 200 if number % REJECTED_EVERY == 0 else 50
            write_whole(folder / "images" / f"{number}.png", np.full((SIDE, SIDE, 3), grey, np.uint8))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = folder / "station.toml"
        path.write_text(STATION.format(bundle=bundle.folder if bundle else folder, port=port), encoding="utf-8")
        station = load_station(path)
        context = multiprocessing.get_context("spawn")
        ended = context.Event()
        process = context.Process(target=_run, args=(station, delay_ms / 1000, bundle, ended), daemon=True)
        process.start()
        try:
            yield station
        finally:
            ended.set()
            process.join(10)
            process.kill()


def _run(station: Station, delay_s: float, bundle: Bundle | None, ended: Event) -> None:
    """Run in the station's process."""
    with (
        Publisher(station.bus, station.name) as publisher,
        Journal(station.journal) as journal,
        DecisionServer(station.bus.decision, station.journal, publisher.boot) as server,
        Heartbeat(publisher, Service()) as heartbeat,
        FolderReplay(Path(str(getattr(station.camera, "folder", "."))), triggered=True) as camera,
        ControlServer(station.bus.control, camera.expose),
    ):
        outbox = Outbox(journal, server)
        if bundle is None:
            job = Job("measured", "none", "fixed delay", 0.5, station.deadline_ms)
            heartbeat.ready(job)
            inspect(camera, FixedDelay(delay_s), job, publisher, heartbeat, outbox=outbox, stop=ended.is_set)
            return
        with open_engine("onnxruntime-cpu", bundle) as engine:
            job = Job("measured", bundle.manifest.bundle_id, engine.name, 1e9, station.deadline_ms)
            heartbeat.ready(job)
            inspect(camera, engine, job, publisher, heartbeat, outbox=outbox, stop=ended.is_set)


@contextmanager
def _bridge(station: Station) -> Iterator[None]:
    path = station.journal.with_name("station.toml")
    command = [sys.executable, "-m", "inspector.cli", "plc", "--station", str(path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - this very interpreter
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _client(station: Station) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=plc_of(station).port)
    until = time.monotonic() + PATIENCE_S
    while not client.connect():  # type: ignore[no-untyped-call]
        if time.monotonic() > until:
            raise CampaignError("the bridge does not serve")
        time.sleep(0.05)
    with client:
        yield client
