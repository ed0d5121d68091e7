"""A PLC at its station's Modbus server: the reference program's twin and one exchange at a time. Knows no belt."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from inspector.plc.registers import MIRROR, OUTPUT_REGISTERS
from inspector.plc.twin import LineInputs, Twin, TwinOutputs

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs every exchange that fails


class ModbusPlc:
    """A PLC at its station's Modbus server: scans of the twin, and one exchange at a time beside them.

    An exchange writes the part's data, then the rest with TriggerSeq, and reads the station's block. A scan waits for
    the running exchange no longer than `scan_ms`; without it the words stay as they were and `exchanged` is False.
    """

    def __init__(
        self, host: str, port: int, twin: Twin, *, scan_ms: float = 10.0, function: int = 4, timeout_s: float = 1.0
    ) -> None:
        """`function` 4 reads input registers, 3 their mirror in the holding registers."""
        self._address = (host, port)
        self.twin = twin
        self.scan_ms = scan_ms
        self._function = function
        self._timeout_s = timeout_s
        self._client: AsyncModbusTcpClient | None = None
        self._exchange: asyncio.Task[list[int] | None] | None = None
        self._words = [0] * OUTPUT_REGISTERS
        self._outputs: TwinOutputs | None = None

    async def scan(self, line: LineInputs, now_ms: int) -> TwinOutputs:
        """One scan, when the exchange that runs has ended or `scan_ms` are over."""
        fresh = await self._taken()
        self._outputs = self.twin.scan(self._words, replace(line, exchanged=fresh), now_ms)
        if self._exchange is None:
            self._exchange = asyncio.create_task(self._exchanged(self._outputs.to_station if self.twin.heard else None))
        return self._outputs

    async def restart(self, twin: Twin) -> None:
        """The PLC loses power, and everything that it knew."""
        await self.close()
        self.twin, self._words, self._outputs = twin, [0] * OUTPUT_REGISTERS, None

    async def close(self) -> None:
        """Drop the connection and what is under way on it."""
        if self._exchange is not None:
            self._exchange.cancel()
            with suppress(asyncio.CancelledError):
                await self._exchange
        self._exchange = None
        self._disconnect()

    async def _taken(self) -> bool:
        if self._exchange is None:
            return False
        await asyncio.wait({self._exchange}, timeout=self.scan_ms / 1000)
        if not self._exchange.done():
            return False
        words = self._exchange.result()
        self._exchange = None
        if words is None:
            self._disconnect()
            return False
        self._words = words
        return True

    async def _exchanged(self, written: tuple[int, ...] | None) -> list[int] | None:
        """The station's words, or None when the connection failed; a PLC that has just started reads only."""
        try:
            if self._client is None:
                host, port = self._address
                self._client = AsyncModbusTcpClient(
                    host, port=port, timeout=self._timeout_s, retries=0, reconnect_delay=0
                )
                if not await self._client.connect():
                    return None
            if written is not None:
                for first, end in ((6, 19), (0, 6)):  # R6: the data before the number
                    if (await self._client.write_registers(first, list(written[first:end]))).isError():
                        return None
            if self._function == 4:
                found = await self._client.read_input_registers(0, count=OUTPUT_REGISTERS)
            else:
                found = await self._client.read_holding_registers(MIRROR, count=OUTPUT_REGISTERS)
        except ModbusException:
            return None
        return None if found.isError() else list(found.registers)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
