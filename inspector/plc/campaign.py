"""From a PLC's trigger to its result, measured where the PLC is; station and bridge in processes of their own."""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread, Timer
from typing import Self

import numpy as np
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from inspector.bundle import Bundle
from inspector.bus import Publisher
from inspector.camera.folder import FolderReplay
from inspector.capture import write_whole
from inspector.control import ControlServer
from inspector.decisions import DecisionFollower, DecisionServer, Outbox
from inspector.engine import open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Image, Prediction, Verdict
from inspector.journal import Journal, last_id, read_all
from inspector.plc import Command, Outcome, PlcInputs, PlcPortError, StatusBit
from inspector.plc.registers import OUTPUT_REGISTERS, outputs_checked, text_of, words_from_plc
from inspector.run import inspect
from inspector.service import Service
from inspector.station import Station, load_station, plc_of

PATIENCE_S = 60.0
REJECTED_EVERY = 3  # of the images, so that both verdicts are passed on
SIDE = 256
FAULT_RATE = 0.02  # a part
RESTART_S = 0.5
DEADLINE_MS = 300

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
        kept = [found for _, found in read_all(station.journal)]
    accepted = {found.part_id for found in kept if found.verdict is Verdict.ACCEPT}
    if not passed <= accepted or len(kept) != parts:
        raise CampaignError(
            f"{len(passed - accepted)} passed without an accept; {len(kept)} decisions of {parts} parts"
        )
    p50, p99, p999 = np.percentile(times_ms, [50, 99, 99.9]).tolist()
    return {
        "what": "trigger to result at the PLC, over Modbus", "parts": parts,
        "inference": f"fixed delay of {delay_ms:g} ms" if bundle is None else bundle.manifest.bundle_id,
        "p50_ms": p50, "p99_ms": p99, "p999_ms": p999 if parts >= 1000 else None, "outcomes": dict(outcomes),
        "passes_without_a_journalled_accept": 0, "lost_decisions": 0,
    }  # fmt: skip


def faults(parts: int, progress: Callable[[str, int, int], None], *, seed: int = 0) -> dict[str, object]:
    """Trigger so many parts while station and bridge are killed and stopped, and connections dropped and delayed.

    Whatever dies is started again after half a second, as systemd does. The PLC's part stays rejected unless every
    condition of the fail-safe policy holds.

    Raises:
        CampaignError: a part passed without an accept in the journal, or a decision was lost.
    """
    dice = random.Random(seed)  # noqa: S311 - which fault comes next
    passed: set[str] = set()
    done: Counter[str] = Counter()
    with _station_folder(None) as station, _Actors(station) as actors, _Recorder(station) as recorder:
        plc = _CarefulPlc(plc_of(station).tcp_port)
        for number in range(parts):
            if dice.random() < FAULT_RATE:
                done[actors.harm(dice, plc)] += 1
            if plc.passes(f"PART-{number:08d}"):
                passed.add(f"PART-{number:08d}")
            if (number + 1) % max(parts // 100, 1) == 0:
                progress("parts", number + 1, parts)
        plc.drop()
        actors.settle()
        recorder.settle(last_id(station.journal))
        kept = dict(read_all(station.journal))
    accepted = {found.part_id for found in kept.values() if found.verdict is Verdict.ACCEPT}
    lost = set(kept) - recorder.heard
    if not passed <= accepted or lost or sorted(kept) != list(range(1, len(kept) + 1)):
        raise CampaignError(f"passed without an accept: {sorted(passed - accepted)}; decisions lost: {sorted(lost)}")
    return {
        "what": "fault campaign over Modbus", "parts": parts, "seed": seed, "faults": dict(done),
        "decisions_in_the_journal": len(kept), "passed": len(passed),
        "passes_without_a_journalled_accept": len(passed - accepted), "lost_decisions": len(lost),
        "accepted_but_rejected_at_the_line": len(accepted - passed), "never_inspected": parts - len(kept),
    }  # fmt: skip


class _Actors:
    """Station and bridge, kept running as systemd would, and harmed."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._ended = Flag()
        self._lock = Lock()
        self._processes: dict[str, BaseProcess | subprocess.Popen[bytes]] = {}
        self._context = multiprocessing.get_context("spawn")
        self._never = self._context.Event()  # the station is not asked to end: it is killed
        self._supervisor = Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Self:
        self._start_missing()
        self._supervisor.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._supervisor.join()
        for process in self._processes.values():
            process.kill()
            if isinstance(process, subprocess.Popen):
                process.wait()
            else:
                process.join()

    def harm(self, dice: random.Random, plc: "_CarefulPlc") -> str:
        """One fault at random; its name."""
        kind = dice.choice(("kill", "stop", "drop", "delay"))
        if kind == "drop":
            plc.drop()
            return "connection dropped"
        if kind == "delay":
            plc.delay_s = dice.uniform(0.05, 0.6)
            return "connection delayed"
        who = dice.choice(("station", "bridge"))
        with self._lock:
            pid = self._processes[who].pid or 0
        with suppress(ProcessLookupError):
            if kind == "kill":
                os.kill(pid, signal.SIGKILL)
                return f"{who} killed"
            os.kill(pid, signal.SIGSTOP)
            Timer(dice.uniform(0.1, 2.0), _go_on, (pid,)).start()
        return f"{who} stopped"

    def settle(self) -> None:
        """Wait until the last harm is over."""
        time.sleep(5.0)

    def _supervise(self) -> None:
        while not self._ended.wait(RESTART_S):
            self._start_missing()

    def _start_missing(self) -> None:
        with self._lock:
            station = self._processes.get("station")
            if not isinstance(station, BaseProcess) or not station.is_alive():
                arguments = (self._station, 0.0, None, self._never)
                process = self._context.Process(target=_run, args=arguments, daemon=True)
                process.start()
                self._processes["station"] = process
            bridge = self._processes.get("bridge")
            if not isinstance(bridge, subprocess.Popen) or bridge.poll() is not None:
                self._processes["bridge"] = subprocess.Popen(  # noqa: S603 - this very interpreter
                    _bridge_command(self._station), stderr=subprocess.DEVNULL
                )


def _go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


class _Recorder:
    """A follower of decisions that keeps what it heard."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._ended = Flag()
        self._thread = Thread(target=self._follow, daemon=True)
        self.heard: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def settle(self, last: int) -> None:
        """Wait until the last decision was heard, or give up."""
        until = time.monotonic() + PATIENCE_S
        while last not in self.heard and time.monotonic() < until:
            time.sleep(0.1)

    def _follow(self) -> None:
        with DecisionFollower(self._station.bus.decision, after=0) as follower:
            while not self._ended.is_set():
                decision = follower.receive(100)
                if decision is not None:
                    self.heard.add(decision.id)
                    follower.acknowledge(decision.id)


class _CarefulPlc:
    """A PLC by the fail-safe policy: a part passes only when everything about its result is right, and in time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client: ModbusTcpClient | None = None
        self._written = PlcInputs(command=Command.ENABLE)
        self._heartbeat = (0, 0.0)  # the station's, and when it moved last
        self.delay_s = 0.0  # of the next exchange

    def drop(self) -> None:
        """Lose the connection."""
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]
        self._client = None

    def passes(self, part_id: str) -> bool:
        """One part; false unless it surely passes."""
        sequence = self._written.trigger_seq % 0xFFFF + 1
        self._written = replace(self._written, trigger_seq=sequence)
        decision_point = time.monotonic() + 2 * DEADLINE_MS / 1000
        try:
            before = self._read()
            data = replace(self._written, part_id=part_id, deadline_ms=DEADLINE_MS)
            self._write(replace(data, trigger_seq=before[4]))  # the part first, its trigger in a later scan
            self._write(data)
            while time.monotonic() < decision_point:
                words = self._read()
                if words[5] == sequence and words[1] & StatusBit.RESULT_VALID:
                    self._write(replace(self._written, part_id=part_id, result_ack_seq=sequence))
                    return self._is_pass(words, before[37], part_id) and time.monotonic() < decision_point
                time.sleep(0.002)
        except (ModbusException, PlcPortError, OSError):
            self.drop()
            time.sleep(0.05)
        return False

    def _is_pass(self, words: list[int], boot_id: int, part_id: str) -> bool:
        return (
            words[37] == boot_id
            and text_of(words[18:28]) == part_id
            and words[6] == Outcome.OK
            and words[6] ^ words[7] == 0xFFFF
            and bool(words[1] & StatusBit.OK)
            and not words[1] & StatusBit.NG
            and time.monotonic() - self._heartbeat[1] < 1.0
        )

    def _write(self, inputs: PlcInputs) -> None:
        self._written = replace(inputs, heartbeat=(self._written.heartbeat + 1) & 0xFFFF)
        _write_block(self._connected(), self._written)

    def _read(self) -> list[int]:
        if self.delay_s:
            time.sleep(self.delay_s)
            self.delay_s = 0.0
        words = _read_block(self._connected())
        if words[2] != self._heartbeat[0]:
            self._heartbeat = (words[2], time.monotonic())
        return words

    def _connected(self) -> ModbusTcpClient:
        if self._client is None:
            client = ModbusTcpClient("127.0.0.1", port=self._port, timeout=1.0, retries=0)
            if not client.connect():  # type: ignore[no-untyped-call]
                client.close()  # type: ignore[no-untyped-call]
                raise PlcPortError("nobody serves")
            self._client = client
        return self._client


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
        _write_block(self._client, self._written)

    def _read(self) -> list[int]:
        return _read_block(self._client)


def _write_block(client: ModbusTcpClient, inputs: PlcInputs) -> None:
    if client.write_registers(0, words_from_plc(inputs)).isError():
        raise PlcPortError("the bridge refuses the PLC's registers")


def _read_block(client: ModbusTcpClient) -> list[int]:
    found = client.read_input_registers(0, count=OUTPUT_REGISTERS)
    if found.isError() or not outputs_checked(found.registers):
        raise PlcPortError("the bridge's registers cannot be read")
    return list(found.registers)


@contextmanager
def _station(delay_ms: float, bundle: Bundle | None) -> Iterator[Station]:
    """A station's loop in a process of its own, on images that are asked for."""
    with _station_folder(bundle) as station:
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


@contextmanager
def _station_folder(bundle: Bundle | None) -> Iterator[Station]:
    """Images and a station's file."""
    with tempfile.TemporaryDirectory(prefix="inspector-plc-") as name:
        folder = Path(name)
        (folder / "images").mkdir()
        spec = bundle.manifest.input if bundle else None
        height, width = (spec.height or SIDE, spec.width or SIDE) if spec else (SIDE, SIDE)
        for number in range(2 * REJECTED_EVERY):
            grey = 200 if number % REJECTED_EVERY == 0 else 50
            write_whole(folder / "images" / f"{number}.png", np.full((height, width, 3), grey, np.uint8))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = folder / "station.toml"
        path.write_text(STATION.format(bundle=bundle.folder if bundle else folder, port=port), encoding="utf-8")
        yield load_station(path)


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


def _bridge_command(station: Station) -> list[str]:
    path = station.journal.with_name("station.toml")
    return [sys.executable, "-m", "inspector.cli", "plc", "--station", str(path)]


@contextmanager
def _bridge(station: Station) -> Iterator[None]:
    with subprocess.Popen(_bridge_command(station), stderr=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def _client(station: Station) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=plc_of(station).tcp_port)
    until = time.monotonic() + PATIENCE_S
    while not client.connect():  # type: ignore[no-untyped-call]
        if time.monotonic() > until:
            raise CampaignError("the bridge does not serve")
        time.sleep(0.05)
    with client:
        yield client
