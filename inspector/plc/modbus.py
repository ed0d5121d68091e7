"""Map 1.0 over Modbus TCP, the station as server. Knows registers and a socket, nothing of inspection."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from inspector.plc import PlcInputs, PlcOutputs, PlcPortError
from inspector.plc.registers import INPUT_REGISTERS, MIRROR, OUTPUT_REGISTERS, TRIGGER_SEQ, inputs_of, words_of

READ_INPUT = 4
HEADER_BYTES = 6  # transaction, protocol, and how many bytes follow
LONGEST = 254  # bytes that may follow
ANY_UNIT = 0  # PLCs send 0, 1 or 255

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs every connection that a PLC drops


class ModbusServer:
    """Serves the station's registers and hears the PLC's; a block that is read is of one moment."""

    def __init__(
        self, host: str, port: int, wrote: Callable[[PlcInputs], None], outputs: Callable[[], PlcOutputs]
    ) -> None:
        self._address = (host, port)
        self._wrote = wrote
        self._outputs = outputs
        self._knows_trigger = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the block is left.

        Raises:
            PlcPortError: the address cannot be used.
        """
        host, port = self._address
        server = _Server(self._device(), address=self._address)
        try:
            await server.serve_forever(background=True)
        except (OSError, RuntimeError) as error:
            raise PlcPortError(
                f"Modbus cannot be served on {host}:{port} ({error}): correct plc.host or plc.port in station.toml; "
                "ports below 1024 need CAP_NET_BIND_SERVICE"
            ) from error
        try:
            yield
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    def _device(self) -> SimDevice:
        bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        holding = [
            SimData(0, count=INPUT_REGISTERS, datatype=DataType.REGISTERS),
            SimData(MIRROR, count=OUTPUT_REGISTERS, datatype=DataType.REGISTERS),
        ]
        inputs = [SimData(0, count=OUTPUT_REGISTERS, datatype=DataType.REGISTERS)]
        return SimDevice(id=ANY_UNIT, simdata=(bits, bits, holding, inputs), action=self._accessed)

    async def _accessed(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """The PLC reads or writes; `registers` are the whole block from `start` on, to be filled before a read."""
        if written is None:
            first = (0 if function == READ_INPUT else MIRROR) - start
            registers[first : first + OUTPUT_REGISTERS] = words_of(self._outputs())
            return None
        if address + count > INPUT_REGISTERS:
            return ExcCodes.ILLEGAL_ADDRESS  # the station's own registers
        words = registers[-start : INPUT_REGISTERS - start]
        words[address : address + count] = [int(word) for word in written]
        self._knows_trigger |= address <= TRIGGER_SEQ < address + count
        if self._knows_trigger:  # until then its 0 is ours, not the PLC's
            self._wrote(inputs_of(words))
        return None


class _Server(ModbusTcpServer):
    def callback_new_connection(self) -> ServerRequestHandler:
        return _InTurn(self, self.trace_packet, self.trace_pdu, self.trace_connect)


class _InTurn(ServerRequestHandler):
    """One connection. pymodbus answers one request and forgets those that arrived with it; here each has its turn."""

    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[no-untyped-call]
        self._stream = b""
        self._answers = False

    def data_received(self, data: bytes) -> None:
        """Take whole requests out of the stream; while one is answered nothing more is read."""
        self._stream += data
        self._next()

    async def handle_request(self) -> None:
        """Answer one request, then look for the next."""
        await super().handle_request()  # type: ignore[no-untyped-call]
        self._answers = False
        self._next()

    def _next(self) -> None:
        while not self._answers and len(self._stream) >= HEADER_BYTES:
            protocol, follow = (int.from_bytes(self._stream[at : at + 2], "big") for at in (2, 4))
            if protocol != 0 or not 2 <= follow <= LONGEST:
                self.close()  # no Modbus: where the next request begins is not known
                return
            if len(self._stream) < HEADER_BYTES + follow:
                break
            request, self._stream = self._stream[: HEADER_BYTES + follow], self._stream[HEADER_BYTES + follow :]
            super().data_received(request)
            self._answers = self.last_pdu is not None  # else it was refused at once
        if isinstance(self.transport, asyncio.ReadTransport):
            (self.transport.pause_reading if self._answers else self.transport.resume_reading)()
