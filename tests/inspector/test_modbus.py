"""The Modbus server over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from pymodbus.client import AsyncModbusTcpClient

from inspector.plc import Command, Outcome, PlcInputs, PlcOutputs, PlcPortError
from inspector.plc.modbus import ModbusServer
from inspector.plc.registers import MIRROR, OUTPUT_REGISTERS, words_from_plc, words_of

OUTPUTS = PlcOutputs(outcome=Outcome.NG, part_id="P-7", boot_id=99)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def connected(heard: list[PlcInputs]) -> AsyncIterator[AsyncModbusTcpClient]:
    port = free_port()
    async with ModbusServer("127.0.0.1", port, heard.append, lambda: OUTPUTS).serving():
        client = AsyncModbusTcpClient("127.0.0.1", port=port)
        assert await client.connect()
        try:
            yield client
        finally:
            client.close()


def run(scenario: Callable[[AsyncModbusTcpClient, list[PlcInputs]], Awaitable[None]]) -> list[PlcInputs]:
    heard: list[PlcInputs] = []

    async def main() -> None:
        async with connected(heard) as client:
            await scenario(client, heard)

    asyncio.run(main())
    return heard


@pytest.mark.parametrize("unit", [0, 1, 255])
def test_the_block_is_read_whole_by_any_unit_id_and_in_both_places(unit: int) -> None:
    async def scenario(client: AsyncModbusTcpClient, _: list[PlcInputs]) -> None:
        inputs = await client.read_input_registers(0, count=OUTPUT_REGISTERS, device_id=unit)
        mirror = await client.read_holding_registers(MIRROR, count=OUTPUT_REGISTERS, device_id=unit)
        assert inputs.registers == mirror.registers == words_of(OUTPUTS)
        part = await client.read_input_registers(18, count=10, device_id=unit)
        assert part.registers == words_of(OUTPUTS)[18:28]

    run(scenario)


def test_the_plc_may_write_all_at_once_or_one_by_one() -> None:
    wanted = PlcInputs(command=Command.ENABLE, trigger_seq=5, part_id="P-8", encoder=70_000, deadline_ms=300)

    async def scenario(client: AsyncModbusTcpClient, heard: list[PlcInputs]) -> None:
        words = words_from_plc(wanted)
        await client.write_registers(0, words)
        assert heard == [wanted]
        await client.write_register(2, 6)
        assert (heard[-1].trigger_seq, heard[-1].part_id) == (6, "P-8")
        back = await client.read_holding_registers(0, count=len(words))
        assert back.registers == [*words[:2], 6, *words[3:]]

    assert len(run(scenario)) == 2


def test_the_stations_registers_cannot_be_written() -> None:
    async def scenario(client: AsyncModbusTcpClient, _: list[PlcInputs]) -> None:
        for address in (MIRROR, MIRROR + 6, 19, 60):
            assert (await client.write_register(address, 1)).isError()
        assert (await client.write_registers(17, [1, 2, 3])).isError()
        mirror = await client.read_holding_registers(MIRROR, count=OUTPUT_REGISTERS)
        assert mirror.registers == words_of(OUTPUTS)

    assert run(scenario) == []


def test_a_port_that_is_taken_is_named() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(PlcPortError, match=f"127.0.0.1:{port}"):
                async with ModbusServer("127.0.0.1", port, lambda _: None, lambda: OUTPUTS).serving():
                    pass

    asyncio.run(main())
