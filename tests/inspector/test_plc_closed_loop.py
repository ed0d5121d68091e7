"""PLC, Modbus, handshake and a station that errs: whatever fails, no part passes without an accept of its own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from inspector.plc.cable import Cable
from inspector.plc.modbus import ModbusServer
from inspector.plc.modbus_plc import ModbusPlc
from inspector.plc.twin import Twin

from .belt import SETTINGS, Belt, FakeStation, as_it_comes, at_once, parts, seeded
from .test_modbus import free_port

PARTS = 300
PATIENT_MS = 5000.0  # a scan waits for its exchange: only what a test does to the cable makes one late
HURRIED_MS = 1.0


class Line:
    """All of it, a scan at a time."""

    def __init__(self, belt: Belt, station: FakeStation, cable: Cable, function: int) -> None:
        self.belt, self.station, self.cable = belt, station, cable
        self.plc = ModbusPlc("127.0.0.1", cable.port, Twin(SETTINGS), scan_ms=PATIENT_MS, function=function)
        self._server = AsyncExitStack()
        self._stopped = 0

    async def start_server(self) -> None:
        self.cable.to_port = free_port()
        server = ModbusServer("127.0.0.1", self.cable.to_port, self.station.wrote, self.station.outputs)
        await self._server.enter_async_context(server.serving())

    async def stop(self) -> None:
        await self.plc.close()
        await self._server.aclose()
        await self.cable.cut()

    async def restart_station(self, scans: int) -> None:
        """Another process: its registers are empty."""
        await self._server.aclose()
        self.station.restart()
        await self.start_server()
        await self.cut(scans)

    async def scan(self) -> None:
        inputs = self.belt.move()
        self.station.live()
        self._stopped = self._stopped + 1 if self.belt.stopped else 0
        outputs = await self.plc.scan(replace(inputs, reset=self._stopped == 10), self.belt.now_ms)
        self.belt.obey(outputs)

    async def scans(self, number: int) -> None:
        for _ in range(number):
            await self.scan()

    async def run_empty(self) -> None:
        while not self.belt.empty:
            await self.scan()

    async def cut(self, scans: int) -> None:
        """The cable is cut; the PLC notices after a while and connects anew."""
        await self.cable.cut()
        self.plc.scan_ms = HURRIED_MS
        await self.scans(scans)
        await self.plc.close()
        self.plc.scan_ms = PATIENT_MS

    async def hold(self, scans: int, *, reconnect: bool) -> None:
        """The cable delays what it carries; the PLC may connect anew meanwhile: the old words come after new ones."""
        self.cable.hold()
        self.plc.scan_ms = HURRIED_MS
        await self.scans(2)
        if reconnect:
            await self.plc.close()
        await self.scans(scans)
        self.cable.release()
        self.plc.scan_ms = PATIENT_MS
        await self.scan()


@asynccontextmanager
async def line(belt: Belt, station: FakeStation, *, function: int = 4) -> AsyncIterator[Line]:
    cable = Cable()
    async with cable.laid():
        running = Line(belt, station, cable, function)
        await running.start_server()
        try:
            yield running
        finally:
            await running.stop()


def assert_nothing_slipped_through(belt: Belt, station: FakeStation) -> None:
    assert [part.number for part in belt.passed if part.number not in station.accepted] == []
    assert all(part.good for part in belt.passed)


@pytest.mark.parametrize("function", [3, 4])
def test_on_a_quiet_line_every_good_part_passes_and_no_other(function: int) -> None:
    belt = Belt(deque(parts(seeded(5), 40)))
    station = FakeStation(belt, at_once)

    async def main() -> None:
        async with line(belt, station, function=function) as running:
            await running.run_empty()

    asyncio.run(main())
    assert_nothing_slipped_through(belt, station)
    good = [part.number for part in belt.passed + belt.rejected if part.good]
    assert sorted(part.number for part in belt.passed) == sorted(good)


def test_whatever_fails_no_part_passes_without_an_accept_of_its_own() -> None:
    random = seeded(11)
    belt = Belt(deque(parts(random, PARTS)))
    station = FakeStation(belt, as_it_comes(random))
    happened: dict[str, int] = {}

    async def fail(running: Line) -> None:
        kind = random.choice(["plc", "station", "inspection", "cut", "hold", "overtake", "hung"])
        happened[kind] = happened.get(kind, 0) + 1
        if kind == "plc":
            await running.plc.restart(Twin(SETTINGS))
        elif kind == "station":
            await running.restart_station(random.randrange(1, 10))
        elif kind == "inspection":
            station.restart_inspection()
        elif kind == "cut":
            await running.cut(random.randrange(1, 10))
        elif kind in {"hold", "overtake"}:
            await running.hold(random.randrange(1, 15), reconnect=kind == "overtake")
        else:
            station.hung = True
            await running.scans(random.randrange(1, 30))
            station.hung = False

    async def main() -> None:
        async with line(belt, station) as running:
            while not belt.empty:
                await running.scans(random.randrange(1, 60))
                await fail(running)

    asyncio.run(main())
    assert_nothing_slipped_through(belt, station)
    accepted = {part.number for part in belt.passed + belt.rejected if part.number in station.accepted}
    over_rejected = accepted - {part.number for part in belt.passed}
    print(f"{len(belt.passed)} passed, {len(over_rejected)} of {len(accepted)} accepted were rejected; {happened}")
    assert len(happened) == 7
    assert len(belt.passed) > PARTS / 10
