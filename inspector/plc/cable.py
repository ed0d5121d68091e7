"""The cable between a PLC and its station, for campaigns and tests: it can be cut, and hold back what is on its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Cable:
    """Carries TCP connections from `port` to `to_port`, both on this machine."""

    def __init__(self) -> None:
        self.to_port = 0
        self.port = 0
        self._connections: dict[asyncio.Task[None], asyncio.Event] = {}

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[None]:
        """Carry connections until the block is left."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await self.cut()
            await server.wait_closed()

    def hold(self) -> None:
        """What is sent on the connections that there are stays on its way; a later connection is not held."""
        for flows in self._connections.values():
            flows.clear()

    def release(self) -> None:
        """What was held arrives."""
        for flows in self._connections.values():
            flows.set()

    async def cut(self) -> None:
        """All connections are closed, and what was on its way is lost."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, plc: asyncio.StreamReader, to_plc: asyncio.StreamWriter) -> None:
        task, flows = asyncio.current_task(), asyncio.Event()
        if task is None:
            raise RuntimeError("a connection is served outside a task")
        self._connections[task] = flows
        flows.set()
        try:
            await self._carry(plc, to_plc, flows)
        except (asyncio.CancelledError, OSError):  # cut, or nobody serves: the PLC sees that its connection is lost
            pass
        finally:
            to_plc.transport.abort()
            del self._connections[task]

    async def _carry(self, plc: asyncio.StreamReader, to_plc: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        station, to_station = await asyncio.open_connection("127.0.0.1", self.to_port)
        ways = [asyncio.create_task(_pump(plc, to_station, flows)), asyncio.create_task(_pump(station, to_plc, flows))]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_station.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    with suppress(OSError):
        while data := await source.read(4096):
            await flows.wait()
            sink.write(data)
        await flows.wait()
        sink.close()
