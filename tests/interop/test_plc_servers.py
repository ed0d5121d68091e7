"""PLC servers that were not written here, the station as their client: words, a closed loop, a PLC that goes away."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from inspector.cli import app
from inspector.inspection import RecipeId, Verdict
from inspector.plc import Command, Outcome, PlcInputs, PlcOutputs, PlcPortError, Reason, StatusBit
from inspector.plc.client import PlcClient
from inspector.plc.handshake import Decided, Handshake, StartInspection, StationState
from inspector.plc.memory import memory_of, open_memory
from inspector.plc.registers import text_of, words_from_plc
from inspector.station import Plc
from inspector.station_file import load_station

HERE = Path(__file__).parent
ASIDE = Path(sys.prefix) / "peers"  # .ci/install.py puts them there
NODE_MODULES = os.environ.get("INSPECTOR_NODE_MODULES", "")
PATIENCE_S = 20.0
PARTS = 6
STATION = """
name = "line1"
deadline_ms = 1000
camera = {{ kind = "folder", folder = "images", trigger = "software" }}
recipe = {{ name = "tray", bundle = "tiny.bundle" }}
[plc]
protocol = "{protocol}"
host = "127.0.0.1"
port = {port}
[plc.{table}]
{settings}
"""
SETTINGS = {"modbus-client": "unit = 7", "s7": "db = 100", "ethernet-ip": ""}
EXTRAS = {"modbus-client": "plc", "s7": "s7", "ethernet-ip": "ethernet-ip"}
PACKAGES = {"modbus-client": "pymodbus", "s7": "snap7", "ethernet-ip": "pylogix"}


@dataclass
class Peer:
    """A PLC in a process of its own, and its program."""

    protocol: str
    station_file: Path
    command: list[str]
    environment: dict[str, str]
    process: "subprocess.Popen[str] | None" = None

    @property
    def plc(self) -> Plc:
        found = load_station(self.station_file).plc
        assert found is not None
        return found

    @contextmanager
    def serving(self) -> Iterator[None]:
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True, env=self.environment) as process:  # noqa: S603
            self.process = process
            try:
                assert self._line() == "serving"
                yield
            finally:
                process.kill()

    def store(self, first: int, *words: int) -> None:
        assert self._asked(f"set {first} {' '.join(map(str, words))}") == "done"

    def load(self) -> list[int]:
        return [int(word) for word in self._asked("get").split()]

    def _asked(self, line: str) -> str:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def quiet_port() -> int:
    """A free one that no client is given for its own end: one might meet itself before its server is up."""
    while True:
        port = Random().randrange(20_000, 32_000)  # noqa: S311
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


@pytest.fixture(params=SETTINGS)
def peer(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    protocol, port = str(request.param), quiet_port()
    table = protocol.replace("-", "_")
    extra = EXTRAS[protocol]
    pytest.importorskip(
        PACKAGES[protocol], reason=f"{PACKAGES[protocol]} is not installed: pip install -e '.[{extra}]'"
    )
    monkeypatch.setattr(f"inspector.plc.{table}.TIMEOUT_S", PATIENCE_S)  # the peers are no fast PLCs
    environment = dict(os.environ)
    if protocol == "modbus-client":
        node = shutil.which("node")
        if node is None or not Path(NODE_MODULES, "modbus-serial").is_dir():
            pytest.skip("node or modbus-serial is not here: set INSPECTOR_NODE_MODULES to a folder that npm has filled")
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        script = tmp_path / "modbus_peer.mjs"
        script.write_text((HERE / "modbus_peer.mjs").read_text())
        command = [node, str(script), str(port)]
    else:
        script, package = {"s7": ("s7_peer.py", "snap7"), "ethernet-ip": ("ethernet_ip_peer.py", "cpppo")}[protocol]
        if not (ASIDE / package).is_dir():
            pytest.skip(f"the server {package} is not here: .ci/install.py dev puts it aside")
        command = [sys.executable, str(HERE / script), str(port)]
        environment["PYTHONPATH"] = str(ASIDE / package)
    station_file = tmp_path / "station.toml"
    station_file.write_text(STATION.format(protocol=protocol, port=port, table=table, settings=SETTINGS[protocol]))
    return Peer(protocol, station_file, command, environment)


def test_words_are_where_the_plc_has_them(peer: Peer) -> None:
    with peer.serving(), open_memory(peer.plc) as memory:
        assert memory.read_to_station() == [0] * 19
        written = words_from_plc(PlcInputs(trigger_seq=0xFFFF, part_id="PART-12345678901234X", encoder=0xFFFE0001))
        peer.store(0, *written)
        assert memory.read_to_station() == written
        wanted = [0xFFFF, 0x8000, 0x7FFF, *range(1000, 1037)]
        memory.write_from_station(5, wanted[5:])
        assert peer.load() == [0] * 5 + wanted[5:]
        memory.write_from_station(0, wanted[:5])
        memory.write_from_station(1, [0xFFFE])
        wanted[1] = 0xFFFE
        assert peer.load() == memory.read_from_station() == wanted


def test_words_that_are_not_there_are_named(peer: Peer) -> None:
    wrong = {"modbus-client": {"to_station": 82}, "s7": {"db": 7}, "ethernet-ip": {"to_station": "Nothing"}}
    table = peer.protocol.replace("-", "_")
    settings = getattr(peer.plc, table).model_copy(update=wrong[peer.protocol])
    with (
        peer.serving(),
        pytest.raises(PlcPortError, match=r"82-100|DB7.*PUT/GET|Nothing"),
        open_memory(peer.plc.model_copy(update={table: settings})) as memory,
    ):
        memory.read_to_station()


def test_a_plc_that_hangs_is_named_in_time(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"inspector.plc.{peer.protocol.replace('-', '_')}.TIMEOUT_S", 2.0)
    with peer.serving(), open_memory(peer.plc) as memory:
        assert memory.read_to_station() == [0] * 19
        assert peer.process is not None
        peer.process.send_signal(signal.SIGSTOP)
        os.waitpid(peer.process.pid, os.WUNTRACED)  # until it stands still
        began_s = time.monotonic()
        with pytest.raises(PlcPortError, match=r"127\.0\.0\.1"):
            memory.write_from_station(0, [1])
        assert time.monotonic() - began_s < 4.0  # S7's library has 5


class Line:
    """A handshake and a station that decides at once: parts whose id ends in 3 are rejected.

    Its clock hardly moves, so that nobody is silent for too long on a machine that is busy with other things.
    """

    def __init__(self) -> None:
        self.handshake = Handshake(boot_id=77, own_deadline_ns=1_000_000_000)
        self.asked: list[StartInspection] = []
        self.beats = 0
        self.now_ns = 1

    def clock(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def heard(self, inputs: PlcInputs, since_ns: int) -> None:
        assert 0 < since_ns <= self.now_ns
        for action in self.handshake.plc_wrote(inputs, self.clock()):
            assert isinstance(action, StartInspection)
            self.asked.append(action)
            verdict = Verdict.REJECT if action.part_id.endswith("3") else Verdict.ACCEPT
            reason = Reason.OVER_THRESHOLD if verdict is Verdict.REJECT else Reason.NONE
            decided = Decided(action.token, verdict, reason, 0.5, 3, journalled=True, recipe=action.recipe)
            self.handshake.decided(decided, self.clock())

    def outputs(self) -> PlcOutputs:
        self.beats += 1
        now_ns = self.clock()
        self.handshake.station_said(StationState(ready=True, heartbeat=self.beats // 10, recipe=RecipeId(1, 1)), now_ns)
        return self.handshake.outputs(now_ns)

    @asynccontextmanager
    async def connected(self, plc: Plc) -> AsyncIterator[None]:
        client = PlcClient(memory_of(plc), 5.0, self.heard, self.handshake.plc_lost, self.outputs, clock=self.clock)
        async with client.serving():
            yield


class Program:
    """The PLC's program, over the peer's memory."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.written = PlcInputs(command=Command.ENABLE)

    async def write(self, **changes: object) -> None:
        heartbeat = (self.written.heartbeat + 1) & 0xFFFF
        self.written = replace(self.written, heartbeat=heartbeat, **changes)  # type: ignore[arg-type]
        words = words_from_plc(self.written)
        await asyncio.to_thread(self.peer.store, 6, *words[6:])
        await asyncio.to_thread(self.peer.store, 0, *words[:6])

    async def until(self, wanted: Callable[[list[int]], bool]) -> list[int]:
        ends = time.monotonic() + PATIENCE_S
        while not wanted(words := await asyncio.to_thread(self.peer.load)):
            assert time.monotonic() < ends, words
            await self.write()
            await asyncio.sleep(0.02)  # the server has somebody else to answer, too
        return words

    async def until_ready(self) -> None:
        await self.until(lambda words: bool(words[1] & StatusBit.READY))

    async def inspect(self, part_id: str) -> Outcome:
        seq = self.written.trigger_seq % 0xFFFF + 1
        await self.write(trigger_seq=seq, part_id=part_id, encoder=seq * 70_000)
        words = await self.until(lambda words: words[5] == seq and bool(words[1] & StatusBit.RESULT_VALID))
        assert text_of(words[18:28]) == part_id
        assert words[38] << 16 | words[39] == seq * 70_000
        assert words[6] ^ words[7] == 0xFFFF
        await self.write(result_ack_seq=seq)
        return Outcome(words[6])


def test_parts_are_inspected_in_a_closed_loop(peer: Peer) -> None:
    line, program = Line(), Program(peer)

    async def main() -> list[Outcome]:
        async with line.connected(peer.plc):
            await program.until_ready()
            return [await program.inspect(f"P-{number}") for number in range(PARTS)]

    with peer.serving():
        outcomes = asyncio.run(main())
        shown = CliRunner().invoke(app, ["plc", "check", "--station", str(peer.station_file)])
    assert outcomes == [Outcome.NG if number == 3 else Outcome.OK for number in range(PARTS)]
    assert [part.part_id for part in line.asked] == [f"P-{number}" for number in range(PARTS)]
    assert shown.exit_code == 0
    assert f"P-{PARTS - 1}" in shown.stdout
    assert "READY" in shown.stdout


def test_a_plc_that_goes_away_is_not_there_and_comes_back(peer: Peer) -> None:
    line, program = Line(), Program(peer)

    async def main() -> None:
        async with line.connected(peer.plc):
            with peer.serving():
                await program.until_ready()
                assert await program.inspect("P-1") is Outcome.OK
            ends = time.monotonic() + PATIENCE_S
            while StatusBit.PLC_HEARTBEAT_LOST not in line.outputs().status:
                assert time.monotonic() < ends
                await asyncio.sleep(0.01)
            assert StatusBit.READY not in line.outputs().status
            with peer.serving():
                await program.until_ready()
                assert await program.inspect("P-2") is Outcome.OK

    asyncio.run(main())
    assert [part.part_id for part in line.asked] == ["P-1", "P-2"]
    done = CliRunner().invoke(app, ["plc", "check", "--station", str(peer.station_file)])
    assert done.exit_code == 2
    assert "127.0.0.1" in done.stderr
