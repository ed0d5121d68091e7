"""What the twin found out about the handshake, and what holds since."""

import asyncio
from collections import deque
from dataclasses import replace

import pytest

from inspector.plc.handshake import Handshake, StartInspection, StationState
from inspector.plc.registers import words_from_plc
from inspector.plc.twin import Twin

from .belt import MS, SETTINGS, Belt, DirectLine, FakeStation, Part, at_once
from .test_handshake import Line
from .test_modbus import free_port


def until(line: DirectLine, part: int, travelled: int) -> None:
    """Scan until a part has travelled so far."""
    at = next(one.at for one in [*line.belt.on_belt, *line.belt.coming] if one.number == part)
    while line.belt.travelled - at < travelled:
        line.scan()


def test_a_number_that_comes_again_is_no_trigger() -> None:
    line = Line()
    for name in "AB":
        assert isinstance(line.trigger(name)[0], StartInspection)
    assert line.plc(trigger_seq=1, part_id="A") == []  # an old connection's last words
    assert line.plc(trigger_seq=2, part_id="B") == []  # the PLC goes on saying how it is


def test_a_late_zero_does_not_make_the_number_before_a_trigger_again() -> None:
    line = Line()
    assert isinstance(line.trigger("A", encoder=5)[0], StartInspection)
    assert line.plc(trigger_seq=0, part_id="", encoder=0) == []  # an old connection's words, of before the first part
    assert line.plc(trigger_seq=1, part_id="A", encoder=5) == []  # the PLC goes on saying how it is


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_a_part_does_not_pass_on_the_next_ones_picture(zeros: int) -> None:
    """Its own picture was bad. Old connections' words arrive late, of before the first trigger too; the wire fails."""
    belt = Belt(deque([Part(0, 50, True, ""), Part(1, 140, False, ""), Part(2, 230, True, "")]))
    station = FakeStation(belt, at_once)
    line = DirectLine(belt, station, Twin(replace(SETTINGS, deadline_ms=60)))
    until(line, 0, 30)
    old_words = tuple(line.twin.to_station)  # with the trigger of part 0
    until(line, 1, 20)
    line.linked = False  # before the verdict on part 1 is read
    until(line, 2, 10)
    for _ in range(zeros):
        line.write((*old_words[:2], 0, *old_words[3:]))
    line.write(old_words)
    line.write(tuple(line.twin.to_station))  # what the PLC says all the time; the answer is lost
    until(line, 1, 170)
    line.linked = True
    while not belt.empty:
        line.scan()
    assert [part.number for part in belt.passed if part.number not in station.accepted] == []


def test_a_plc_that_writes_in_pieces_triggers_nothing_by_its_first_words() -> None:
    pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")
    from pymodbus.client import AsyncModbusTcpClient

    from inspector.plc.modbus import ModbusServer

    handshake, actions = Handshake(boot_id=7, own_deadline_ns=100 * MS), []
    handshake.station_said(StationState(ready=True, heartbeat=1), 0)
    words = words_from_plc(Line().inputs)[:2] + [41, 0, 0, 0] + [0] * 13

    async def main() -> None:
        port = free_port()
        wrote = ModbusServer(
            "127.0.0.1",
            port,
            lambda inputs: actions.extend(handshake.plc_wrote(inputs, 0)),
            lambda: handshake.outputs(0),
        )
        async with wrote.serving():
            client = AsyncModbusTcpClient("127.0.0.1", port=port)
            assert await client.connect()
            try:
                for first, end in ((0, 2), (3, 19), (2, 3)):
                    assert not (await client.write_registers(first, words[first:end])).isError()
            finally:
                client.close()

    asyncio.run(main())
    assert actions == []
