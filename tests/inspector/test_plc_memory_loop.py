"""PLC as the server, client, handshake and a station that errs: whatever fails, no part passes without an accept."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from inspector.plc.client import PlcClient
from inspector.plc.client_settings import ModbusClientSettings
from inspector.plc.modbus_client import ModbusMemory
from inspector.plc.twin import Twin

from .belt import SETTINGS, Belt, FakeStation, as_it_comes, at_once, parts, seeded
from .plc_memory import MemoryLine, Words, served
from .test_modbus import free_port
from .test_plc_closed_loop import HURRIED_MS, PATIENT_MS, Cable, assert_nothing_slipped_through
from .test_plc_closed_loop import Line as ServedLine

PARTS = 100
POLL_MS = 1.0


class Line(ServedLine):
    """All of it, a scan at a time, the station being the client."""

    def __init__(self, belt: Belt, station: FakeStation, cable: Cable) -> None:
        super().__init__(belt, station, cable, function=3)
        self.words = Words()
        self.plc = MemoryLine(self.words, Twin(SETTINGS), scan_ms=PATIENT_MS)
        self.lost = 0
        self._client = AsyncExitStack()

    async def start_client(self) -> None:
        memory = ModbusMemory("127.0.0.1", self.cable.port, ModbusClientSettings())
        client = PlcClient(
            memory, POLL_MS, lambda inputs, _: self.station.wrote(inputs), self._lose, self.station.outputs,
            clock=lambda: self.station.now_ns,
        )  # fmt: skip
        await self._client.enter_async_context(client.serving())

    async def stop(self) -> None:
        await self._client.aclose()
        await self.cable.cut()

    async def restart_station(self, scans: int) -> None:
        await self._client.aclose()
        self.station.restart()
        await self._alone(scans)
        await self.start_client()

    async def cut(self, scans: int) -> None:
        await self.cable.cut()
        await self._alone(scans)

    async def delay(self, scans: int) -> None:
        """What is on its way arrives late."""
        self.cable.hold()
        await self._alone(scans)
        self.cable.release()
        await self.scan()

    async def _alone(self, scans: int) -> None:
        """The PLC's program goes on and waits for nobody."""
        self.plc.scan_ms = HURRIED_MS
        await self.scans(scans)
        self.plc.scan_ms = PATIENT_MS

    def _lose(self) -> None:
        self.lost += 1
        self.station.handshake.plc_lost()


@asynccontextmanager
async def line(belt: Belt, station: FakeStation) -> AsyncIterator[Line]:
    cable = Cable()
    async with cable.laid():
        running = Line(belt, station, cable)
        cable.to_port = free_port()
        async with served(running.words, cable.to_port):
            await running.start_client()
            try:
                yield running
            finally:
                await running.stop()


KINDS = ("plc", "station", "inspection", "cut", "delay", "hung")


def test_on_a_quiet_line_every_good_part_passes_and_no_other() -> None:
    belt = Belt(deque(parts(seeded(5), 40)))
    station = FakeStation(belt, at_once)

    async def main() -> None:
        async with line(belt, station) as running:
            await running.run_empty()
            assert running.lost == 0

    asyncio.run(main())
    assert_nothing_slipped_through(belt, station)
    good = [part.number for part in belt.passed + belt.rejected if part.good]
    assert sorted(part.number for part in belt.passed) == sorted(good)


def test_whatever_fails_no_part_passes_without_an_accept_of_its_own() -> None:
    random = seeded(11)
    belt = Belt(deque(parts(random, PARTS)))
    station = FakeStation(belt, as_it_comes(random))
    happened: dict[str, int] = {}
    ahead: list[str] = []
    lost = 0

    async def fail(running: Line) -> None:
        if not ahead:
            ahead.extend(random.sample(KINDS, len(KINDS)))
        kind = ahead.pop()
        happened[kind] = happened.get(kind, 0) + 1
        if kind == "plc":
            await running.plc.restart(Twin(SETTINGS))
        elif kind == "station":
            await running.restart_station(random.randrange(1, 10))
        elif kind == "inspection":
            station.restart_inspection()
        elif kind == "cut":
            await running.cut(random.randrange(1, 10))
        elif kind == "delay":
            await running.delay(random.randrange(1, 15))
        else:
            station.hung = True
            await running.scans(random.randrange(1, 30))
            station.hung = False

    async def main() -> None:
        nonlocal lost
        async with line(belt, station) as running:
            while not belt.empty:
                await running.scans(random.randrange(1, 60))
                await fail(running)
            lost = running.lost

    asyncio.run(main())
    assert_nothing_slipped_through(belt, station)
    accepted = {part.number for part in belt.passed + belt.rejected if part.number in station.accepted}
    over_rejected = accepted - {part.number for part in belt.passed}
    print(f"{len(belt.passed)} passed, {len(over_rejected)} of {len(accepted)} accepted were rejected; {happened}")
    assert len(happened) == 6
    assert lost >= happened["cut"]
    assert len(belt.passed) > PARTS / 10
