"""A PLC's memory, for a station that reads and writes it as a client. `PlcMemory` is the seam; protocols are beside."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from inspector.station import Plc

TIMEOUT_S = 1.0  # of one request; the PLC's heartbeat may stand still for longer


class PlcMemory(Protocol):
    """The two blocks of map 1.0 in a PLC: ToStation, which its program writes, and FromStation, which the station does.

    Every call takes up to `TIMEOUT_S` and raises `PlcPortError`, whose text names the address or the key and says what
    to do; the connection is then lost, and `close` and `open` make another. One request reads or writes the words of a
    call, but whether a PLC's program can see half of them is up to the PLC.
    """

    @property
    def where(self) -> str:
        """Protocol and address, for a person."""
        ...

    def open(self) -> None:
        """Connect, in up to 5 s."""
        ...

    def read_to_station(self) -> list[int]:
        """The `INPUT_REGISTERS` words that the PLC has written."""
        ...

    def read_from_station(self) -> list[int]:
        """The `OUTPUT_REGISTERS` words that the station has written."""
        ...

    def write_from_station(self, first: int, words: Sequence[int]) -> None:
        """Write some of the station's words, from this one on; it has happened when this returns."""
        ...

    def close(self) -> None:
        """Disconnect; never fails, and may be called at any time."""
        ...


def memory_of(plc: Plc) -> PlcMemory:
    """The memory of the station's PLC, not yet connected.

    Raises:
        ModuleNotFoundError: the extra of the protocol is not installed.
        ValueError: the station is the server of this protocol.
    """
    if plc.modbus_client is not None:
        from inspector.plc.modbus_client import ModbusMemory

        return ModbusMemory(plc.host, plc.tcp_port, plc.modbus_client)
    if plc.s7 is not None:
        from inspector.plc.s7 import S7Memory

        return S7Memory(plc.host, plc.tcp_port, plc.s7)
    if plc.ethernet_ip is not None:
        from inspector.plc.ethernet_ip import EthernetIpMemory

        return EthernetIpMemory(plc.host, plc.tcp_port, plc.ethernet_ip)
    raise ValueError(f"of {plc.protocol} the station is the server")


@contextmanager
def open_memory(plc: Plc) -> Iterator[PlcMemory]:
    """The memory of the station's PLC, connected.

    Raises:
        PlcPortError: it cannot be reached.
    """
    memory = memory_of(plc)
    try:
        memory.open()
        yield memory
    finally:
        memory.close()
