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


def frame(transaction: int, body: bytes) -> bytes:
    return transaction.to_bytes(2, "big") + bytes(2) + (len(body) + 1).to_bytes(2, "big") + b"\x01" + body


READ_ALL = b"\x04" + bytes([0, 0, 0, OUTPUT_REGISTERS])
READ_TOO_MUCH = b"\x04" + bytes([0, OUTPUT_REGISTERS, 0, 1])
WRITE_TRIGGER = b"\x06" + bytes([0, 2, 0, 77])
NO_FUNCTION = b"\x63\x00"


def answers_to(*segments: bytes, number: int, pause_s: float = 0.0) -> tuple[list[tuple[int, int]], list[PlcInputs]]:
    """Transaction and function of so many answers to raw segments, and what the station heard."""
    heard: list[PlcInputs] = []

    async def main() -> list[tuple[int, int]]:
        port, found = free_port(), []
        async with ModbusServer("127.0.0.1", port, heard.append, lambda: OUTPUTS).serving():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for segment in segments:
                    writer.write(segment)
                    await asyncio.sleep(pause_s)
                for _ in range(number):
                    header = await asyncio.wait_for(reader.readexactly(6), 5)
                    body = await asyncio.wait_for(reader.readexactly(int.from_bytes(header[4:], "big")), 5)
                    found.append((int.from_bytes(header[:2], "big"), body[1]))
            finally:
                writer.close()
                await writer.wait_closed()
        return found

    return asyncio.run(main()), heard


def test_requests_that_arrive_together_are_each_answered_in_their_order() -> None:
    bodies = [READ_ALL, WRITE_TRIGGER, NO_FUNCTION, READ_TOO_MUCH, READ_ALL]
    sent = b"".join(frame(number, body) for number, body in enumerate(bodies))
    found, heard = answers_to(sent, number=5)
    assert found == [(0, 4), (1, 6), (2, 0x80), (3, 0x80 | 4), (4, 4)]
    assert [inputs.trigger_seq for inputs in heard] == [77]


def test_a_long_train_of_requests_in_any_pieces_is_answered() -> None:
    sent = b"".join(frame(number, READ_ALL) for number in range(300))
    pieces = [sent[at : at + 7] for at in range(0, 700, 7)] + [sent[700:]]
    found, _ = answers_to(*pieces, number=300)
    assert found == [(number, 4) for number in range(300)]
    split, _ = answers_to(frame(1, READ_ALL)[:3], frame(1, READ_ALL)[3:] + frame(2, READ_ALL), number=2, pause_s=0.05)
    assert split == [(1, 4), (2, 4)]


def test_a_connection_that_speaks_no_modbus_is_closed() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        answers_to(b"GET / HTTP/1.1\r\n\r\n", number=1)


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
