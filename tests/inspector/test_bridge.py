"""The whole of it: station process, bridge process, and a PLC that speaks Modbus to it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from pymodbus.client import ModbusTcpClient

from inspector.camera import Trigger
from inspector.cli import app
from inspector.control import ControlServer
from inspector.inspection import Refusal, Verdict
from inspector.journal import read_all
from inspector.plc import Command, Outcome, PlcInputs, Reason, StatusBit
from inspector.plc.bridge import Bridge
from inspector.plc.handshake import StationState
from inspector.plc.registers import OUTPUT_REGISTERS, text_of, words_from_plc
from inspector.station import Bus
from inspector.station_file import load_station

from .plc_memory import Words, served_beside
from .test_modbus import free_port
from .tiny import build_bundle, part, tiny_graph, write_image

PATIENCE_S = 30.0
OTHERS = (("other", 13), ("damaged", 14))
OTHER_RECIPE = '{ name = "other", bundle = "other.bundle", number = 13 }'
runner = CliRunner()


@dataclass
class Plc:
    """A PLC's program, one step at a time."""

    client: ModbusTcpClient
    written: PlcInputs = field(default_factory=lambda: PlcInputs(command=Command.ENABLE))

    def write(self, **changes: object) -> None:
        heartbeat = (self.written.heartbeat + 1) & 0xFFFF
        self.written = replace(self.written, heartbeat=heartbeat, **changes)  # type: ignore[arg-type]
        assert not self.client.write_registers(0, words_from_plc(self.written)).isError()

    def read(self) -> list[int]:
        words = self.client.read_input_registers(0, count=OUTPUT_REGISTERS)
        assert not words.isError()
        return list(words.registers)

    def until(self, wanted: Callable[[list[int]], bool]) -> list[int]:
        """Scan, with a living heartbeat, until the registers are as wanted."""
        ends = time.monotonic() + PATIENCE_S
        while not wanted(words := self.read()):
            assert time.monotonic() < ends, f"the registers stay {words}"
            self.write()
            time.sleep(0.005)
        return words

    def until_ready(self) -> None:
        self.until(lambda words: bool(words[1] & StatusBit.READY))

    def inspect(self, part_id: str, deadline_ms: int = 5000) -> tuple[Outcome, Reason, str]:
        """One part: its data, its trigger, its result, the acknowledgement."""
        self.write(part_id=part_id, encoder=7, deadline_ms=deadline_ms)
        seq = self.written.trigger_seq % 0xFFFF + 1
        self.write(trigger_seq=seq)
        words = self.until(lambda words: words[5] == seq and bool(words[1] & StatusBit.RESULT_VALID))
        self.write(result_ack_seq=seq)
        assert words[6] ^ words[7] == 0xFFFF
        return Outcome(words[6]), Reason(words[8]), text_of(words[18:28])


@dataclass
class MemoryPlc(Plc):
    """One that is the server: what it writes and reads are its own words."""

    client: Words

    def write(self, **changes: object) -> None:
        heartbeat = (self.written.heartbeat + 1) & 0xFFFF
        self.written = replace(self.written, heartbeat=heartbeat, **changes)  # type: ignore[arg-type]
        words = words_from_plc(self.written)
        self.client.to_station[6:] = words[6:]
        self.client.to_station[:6] = words[:6]

    def read(self) -> list[int]:
        return list(self.client.from_station)


@pytest.fixture
def station_file(tmp_path: Path, bus: Bus, bundle_folder: Path) -> Path:
    assert bundle_folder.exists()
    (tmp_path / "images").mkdir()
    for number, image in enumerate([part(100), part(100, defect=220), part(100)]):
        write_image(tmp_path / "images" / f"{number}.png", image)
    (tmp_path / "images" / "3.png").write_bytes(b"damaged")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoints = ", ".join(f'{name} = "{getattr(bus, name)}"' for name in Bus.model_fields)
    path = tmp_path / "station.toml"
    path.write_text(
        f"""
        name = "line1"
        deadline_ms = 2000
        camera = {{ kind = "folder", folder = "images", trigger = "software" }}
        recipe = {{ name = "tray", bundle = "tiny.bundle", number = 12 }}
        bus = {{ {endpoints} }}
        plc = {{ protocol = "modbus", port = {port} }}
        journal = "journal.sqlite"
        """
    )
    return path


@contextmanager
def process(station_file: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "inspector.cli", *words, "--station", str(station_file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:  # noqa: S603 - this interpreter
        try:
            yield running
        finally:
            running.terminate()
            running.communicate(timeout=20)


@contextmanager
def plc_of(station_file: Path) -> Iterator[Plc]:
    port = int(station_file.read_text().split("port = ")[1].split()[0])
    client = ModbusTcpClient("127.0.0.1", port=port)
    ends = time.monotonic() + PATIENCE_S
    while not client.connect():
        assert time.monotonic() < ends, "the bridge does not serve"
        time.sleep(0.05)
    with client:
        plc = Plc(client)
        plc.write()
        yield plc


def test_parts_are_inspected_over_modbus(station_file: Path) -> None:
    with process(station_file, "run"), process(station_file, "plc"), plc_of(station_file) as plc:
        plc.until_ready()
        seen = [plc.inspect(f"P-{number}") for number in range(4)]
        words = plc.read()
        assert seen == [
            (Outcome.OK, Reason.NONE, "P-0"),
            (Outcome.NG, Reason.OVER_THRESHOLD, "P-1"),
            (Outcome.OK, Reason.NONE, "P-2"),
            (Outcome.NOT_INSPECTED, Reason.CAMERA, "P-3"),
        ]
        assert words[12] == 12
        assert words[28:34] == [0, 4, 0, 1, 0, 1]
        assert words[38:40] == [0, 7]
        shown = runner.invoke(app, ["plc", "check", "--station", str(station_file)])
        assert "READY" in shown.stdout
        assert "P-3" in shown.stdout
    journal = [(found.part_id, found.verdict) for _, found in read_all(station_file.with_name("journal.sqlite"))]
    verdicts = [Verdict.ACCEPT, Verdict.REJECT, Verdict.ACCEPT, Verdict.FAULT]
    assert journal == [(f"P-{number}", verdict) for number, verdict in enumerate(verdicts)]


def test_a_station_that_is_killed_drops_ready_and_its_part_is_not_inspected(station_file: Path) -> None:
    with process(station_file, "plc"), plc_of(station_file) as plc:
        with process(station_file, "run") as running:
            plc.until_ready()
            os.kill(running.pid, signal.SIGSTOP)
            outcome, reason, _ = plc.inspect("P-0", deadline_ms=300)
            assert (outcome, reason) == (Outcome.NOT_INSPECTED, Reason.TIMEOUT)
            plc.until(lambda words: not words[1] & StatusBit.READY)
            os.kill(running.pid, signal.SIGKILL)
        assert plc.inspect("P-1")[:2] == (Outcome.NOT_INSPECTED, Reason.STALE_TRIGGER)
        with process(station_file, "run"):
            plc.until_ready()
            assert plc.inspect("P-2")[0] is Outcome.OK
    assert "P-2" in {found.part_id for _, found in read_all(station_file.with_name("journal.sqlite"))}


def test_a_bridge_that_is_killed_comes_back_under_another_boot_id_and_inspects_nothing_of_before(
    station_file: Path,
) -> None:
    with process(station_file, "run"):
        with process(station_file, "plc") as bridge, plc_of(station_file) as plc:
            plc.until_ready()
            boot = plc.read()[37]
            plc.write(trigger_seq=41, part_id="P-41")
            os.kill(bridge.pid, signal.SIGKILL)
        with process(station_file, "plc"), plc_of(station_file) as plc:
            plc.write(trigger_seq=41, part_id="P-41")
            plc.written = replace(plc.written, trigger_seq=41)
            plc.until_ready()
            words = plc.read()
            assert words[37] != boot
            assert plc.inspect("P-42")[2] == "P-42"


def test_a_plc_changes_the_recipe_and_a_restart_keeps_it(station_file: Path) -> None:
    folder = station_file.parent
    build_bundle(folder / "other.bundle", tiny_graph(version=19))
    build_bundle(folder / "damaged.bundle")
    (folder / "damaged.bundle" / "model.onnx").write_bytes(b"cut short")
    others = [f'{{ name = "{name}", bundle = "{name}.bundle", number = {number} }}' for name, number in OTHERS]
    station_file.write_text(station_file.read_text() + f"recipes = [{', '.join(others)}]\n")
    with process(station_file, "plc"), plc_of(station_file) as plc:
        with process(station_file, "run"):
            plc.until_ready()
            first = plc.read()
            assert (first[12], first[13]) == (12, 1)
            assert plc.inspect("P-0")[0] is Outcome.OK

            plc.write(recipe_request=13, recipe_request_seq=1)
            assert plc.read()[1] & (StatusBit.CHANGEOVER_BUSY | StatusBit.READY) == StatusBit.CHANGEOVER_BUSY
            changed = plc.until(lambda words: bool(words[1] & StatusBit.RECIPE_ACK))
            assert (changed[12], changed[13], changed[34]) == (13, 1, 0)
            assert changed[14] not in {0, first[14]}
            plc.until_ready()
            assert plc.inspect("P-1")[0] is Outcome.NG

            plc.write(recipe_request=14, recipe_request_seq=2)
            refused = plc.until(lambda words: bool(words[1] & StatusBit.RECIPE_ACK))
            assert (refused[12], refused[34]) == (13, Refusal.BUNDLE)
            plc.until_ready()
            assert plc.inspect("P-2")[0] is Outcome.OK

            asked = runner.invoke(app, ["recipe", "12", "--station", str(station_file)])
            assert asked.exit_code == 0, asked.output
            assert "recipe 12, revision 1, is active" in asked.stdout
            plc.until(lambda words: words[12] == 12)
            wrong = runner.invoke(app, ["recipe", "99", "--station", str(station_file)])
            assert wrong.exit_code == 1
            assert "has no recipe 99" in wrong.stdout
            plc.write(recipe_request=13, recipe_request_seq=3)
            plc.until(lambda words: words[12] == 13 and not words[1] & StatusBit.CHANGEOVER_BUSY)
        plc.until(lambda words: not words[1] & StatusBit.READY)
        with process(station_file, "run"):
            plc.until_ready()
            assert plc.read()[12] == 13
            assert plc.inspect("P-3")[2] == "P-3"
    told = [(found.part_id, found.recipe_number) for _, found in read_all(folder / "journal.sqlite")]
    assert told == [("P-0", 12), ("P-1", 13), ("P-2", 13), ("P-3", 13)]


def test_a_station_that_is_killed_amid_a_changeover_comes_back_with_one_recipe_and_says_which(
    station_file: Path,
) -> None:
    folder = station_file.parent
    build_bundle(folder / "other.bundle")
    station_file.write_text(station_file.read_text() + f"recipes = [{OTHER_RECIPE}]\n")
    with process(station_file, "plc"), plc_of(station_file) as plc:
        with process(station_file, "run") as running:
            plc.until_ready()
            os.kill(running.pid, signal.SIGSTOP)
            plc.write(recipe_request=13, recipe_request_seq=1)
            plc.until(lambda words: bool(words[1] & StatusBit.CHANGEOVER_BUSY))
            os.kill(running.pid, signal.SIGKILL)
        with process(station_file, "run"):
            words = plc.until(lambda words: bool(words[1] & StatusBit.RECIPE_ACK))
            assert words[34] == Refusal.NOT_ANSWERED
            plc.until_ready()
            assert plc.read()[12] == 12
            assert plc.inspect("P-0")[0] is Outcome.OK


def test_nobody_is_asked_for_a_recipe_where_no_station_runs(station_file: Path) -> None:
    done = runner.invoke(app, ["recipe", "12", "--station", str(station_file)])
    assert done.exit_code == 2
    assert "start inspector run" in done.stderr
    listed = runner.invoke(app, ["recipe", "--station", str(station_file)])
    assert listed.stdout.split()[:2] == ["12", "tray"]


def test_a_trigger_is_as_old_as_the_bridge_cannot_exclude(bus: Bus, station_file: Path) -> None:
    asked: list[Trigger] = []
    station = load_station(station_file)
    with ControlServer(bus.control, asked.append), Bridge(station) as bridge:
        words = PlcInputs(command=Command.ENABLE)
        bridge.wrote(words)
        bridge._handshake.station_said(StationState(ready=True, heartbeat=1), time.monotonic_ns())
        ends = time.monotonic() + PATIENCE_S
        while not asked:
            assert time.monotonic() < ends
            words = replace(words, trigger_seq=words.trigger_seq + 1, heartbeat=words.heartbeat + 1)
            bridge.wrote(words, since_ns=1234)  # until the control socket is connected
            bridge._handshake.station_said(StationState(ready=True, heartbeat=words.heartbeat), time.monotonic_ns())
            time.sleep(0.01)
    assert asked[0].asked_ns == 1234


def test_a_plc_that_is_the_server_is_inspected_for(station_file: Path) -> None:
    """The other way round: the station's process as the client of this test's registers."""
    words = Words()
    port = free_port()
    text = station_file.read_text()
    table = text[text.index("plc = {") :].splitlines()[0]
    client = f'protocol = "modbus-client", host = "127.0.0.1", port = {port}, modbus_client = {{}}'
    station_file.write_text(text.replace(table, f"plc = {{ {client} }}"))
    with served_beside(words, port), process(station_file, "run"), process(station_file, "plc"):
        plc = MemoryPlc(words)
        plc.until_ready()
        seen = [plc.inspect(f"P-{number}") for number in range(4)]
        assert seen == [
            (Outcome.OK, Reason.NONE, "P-0"),
            (Outcome.NG, Reason.OVER_THRESHOLD, "P-1"),
            (Outcome.OK, Reason.NONE, "P-2"),
            (Outcome.NOT_INSPECTED, Reason.CAMERA, "P-3"),
        ]
        shown = runner.invoke(app, ["plc", "check", "--station", str(station_file)])
        assert "READY" in shown.stdout
        assert "P-3" in shown.stdout
        live = runner.invoke(app, ["plc", "monitor", "--station", str(station_file), "--seconds", "0.1"])
        assert "P-3" in live.stdout
    done = runner.invoke(app, ["plc", "check", "--station", str(station_file)])
    assert done.exit_code == 2
    assert f"127.0.0.1:{port}" in done.stderr


def test_nobody_serving_is_said(station_file: Path) -> None:
    done = runner.invoke(app, ["plc", "check", "--station", str(station_file)])
    assert done.exit_code == 2
    assert "start inspector plc" in done.stderr
