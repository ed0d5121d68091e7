"""A PLC that is the server, for tests: its memory behind a Modbus server, and the twin's scans over that memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import TYPE_CHECKING

from inspector.plc.twin import LineInputs, Twin, TwinOutputs

if TYPE_CHECKING:
    from pymodbus.constants import ExcCodes

TO_STATION, FROM_STATION = 0, 100


@dataclass
class Words:
    """ToStation and FromStation, as docs/integration.md has them."""

    to_station: list[int] = field(default_factory=lambda: [0] * 19)
    from_station: list[int] = field(default_factory=lambda: [0] * 40)


@asynccontextmanager
async def served(words: Words, port: int) -> AsyncIterator[None]:
    """Let the station read and write the words as holding registers."""
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    async def accessed(
        function: int, start: int, address: int, count: int, registers: list[int], written: list[int] | None
    ) -> "ExcCodes | None":
        del function, count
        if written is None:
            registers[TO_STATION - start : 19 - start] = words.to_station
            registers[FROM_STATION - start : 140 - start] = words.from_station
        else:
            first = address - FROM_STATION
            words.from_station[first : first + len(written)] = map(int, written)
        return None

    bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
    holding = [
        SimData(TO_STATION, count=19, datatype=DataType.REGISTERS),
        SimData(FROM_STATION, count=40, datatype=DataType.REGISTERS),
    ]
    unused = [SimData(0, count=1, datatype=DataType.REGISTERS)]
    device = SimDevice(id=0, simdata=(bits, bits, holding, unused), action=accessed)
    server = ModbusTcpServer(device, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


@contextmanager
def served_beside(words: Words, port: int) -> Iterator[None]:
    """As `served`, in a thread of its own."""

    async def serve() -> None:
        async with served(words, port):
            begun.set()
            while not ended.is_set():
                await asyncio.sleep(0.01)

    begun, ended = Event(), Event()
    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(10)
        yield
    finally:
        ended.set()
        thread.join()


class MemoryLine:
    """A PLC whose memory is read and written: an exchange has ended when its heartbeat has come back."""

    def __init__(self, words: Words, twin: Twin, *, scan_ms: float) -> None:
        """A scan waits for the exchange no longer than `scan_ms`."""
        self.words = words
        self.twin = twin
        self.scan_ms = scan_ms
        self._echo = 0

    async def scan(self, line: LineInputs, now_ms: int) -> TwinOutputs:
        """One scan: the station's words are copied at its start, and the PLC's are stored at its end."""
        until = asyncio.get_running_loop().time() + self.scan_ms / 1000
        while self.words.from_station[3] == self._echo and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.0005)
        copied = list(self.words.from_station)
        exchanged, self._echo = copied[3] != self._echo, copied[3]
        outputs = self.twin.scan(copied, replace(line, exchanged=exchanged), now_ms)
        words = outputs.to_station
        self.words.to_station[6:] = words[6:]  # R6
        await asyncio.sleep(0)
        self.words.to_station[:6] = words[:6]
        return outputs

    async def restart(self, twin: Twin) -> None:
        """The PLC loses power, and everything that it knew."""
        self.twin, self._echo = twin, 0
        self.words.to_station[:] = [0] * 19
        self.words.from_station[:] = [0] * 40
