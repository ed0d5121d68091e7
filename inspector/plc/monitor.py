"""Both blocks of the map in a terminal: over Modbus as the PLC reads them, or out of the PLC's memory."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import IntEnum
from itertools import zip_longest

from rich.console import Console
from rich.live import Live
from rich.table import Table

from inspector.plc import MAP_VERSION, Outcome, PlcInputs, PlcPortError, Reason, StatusBit
from inspector.plc.client_settings import ModbusClientSettings
from inspector.plc.memory import PlcMemory, open_memory
from inspector.plc.registers import MIRROR, inputs_of, outputs_checked, text_of
from inspector.station import Plc, Station, plc_of

EVERY_S = 0.2
ANY_HOST = "0.0.0.0"  # noqa: S104 - served on; read from the loopback


def read_once(station: Station) -> tuple[list[int], PlcInputs]:
    """The station's registers and what the PLC has written.

    Raises:
        PlcPortError: nobody serves there, or the station should and it is something else than this map.
        StationError: the station has no PLC.
    """
    plc = plc_of(station)
    with _open(plc) as memory:
        return _read(memory, plc)


def monitor(station: Station, console: Console, stop: Callable[[], bool], seconds: float | None) -> None:
    """Show the registers until asked to stop or for so many seconds.

    Raises:
        PlcPortError: as `read_once`.
    """
    ends = time.monotonic() + (seconds if seconds is not None else float("inf"))
    plc = plc_of(station)
    with _open(plc) as memory, Live(console=console, auto_refresh=False) as live:
        while not stop() and time.monotonic() < ends:
            live.update(table_of(*_read(memory, plc)), refresh=True)
            time.sleep(EVERY_S)


def table_of(words: list[int], inputs: PlcInputs) -> Table:
    """Both directions, by name."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("station", "", "PLC", ""):
        table.add_column(heading, overflow="fold")
    status = StatusBit(words[1])
    station = {
        "map": f"{words[0] >> 8}.{words[0] & 0xFF}" if words[0] == MAP_VERSION else "none: nobody has written it",
        "status": " ".join(bit.name or "" for bit in StatusBit if bit in status) or "-",
        "heartbeat": str(words[2]),
        "trigger, result": f"{words[4]}, {words[5]}",
        "verdict": f"{_name(Outcome, words[6])} ({_name(Reason, words[8])})",
        "part": text_of(words[18:28]) or "-",
        "under way": str(words[17]),
        "parts, NG, not inspected": ", ".join(str(words[at] << 16 | words[at + 1]) for at in (28, 30, 32)),
        "error, boot id": f"{words[34]}, {words[37]}",
    }
    plc = {
        "command": " ".join(bit.name or "" for bit in type(inputs.command) if bit in inputs.command) or "-",
        "heartbeat": str(inputs.heartbeat),
        "trigger, acknowledged": f"{inputs.trigger_seq}, {inputs.result_ack_seq}",
        "part": inputs.part_id or "-",
        "encoder": str(inputs.encoder),
        "deadline": f"{inputs.deadline_ms} ms",
        "recipe, request": f"{inputs.recipe_request}, {inputs.recipe_request_seq}",
    }
    for (name, value), (other, written) in zip_longest(station.items(), plc.items(), fillvalue=("", "")):
        table.add_row(name, value, other, written)
    return table


@contextmanager
def _open(plc: Plc) -> Iterator[PlcMemory]:
    """Both blocks, in the PLC's memory or on the station's own server."""
    if plc.client is not None:
        with open_memory(plc) as memory:
            yield memory
        return
    host = "127.0.0.1" if plc.host == ANY_HOST else plc.host
    if plc.protocol != "modbus":
        raise PlcPortError(f"opc.tcp://{host}:{plc.tcp_port} is looked at with an OPC UA client: UaExpert, for one")
    from inspector.plc.modbus_client import ModbusMemory

    memory = ModbusMemory(host, plc.tcp_port, ModbusClientSettings(to_station=0, from_station=MIRROR))
    try:
        memory.open()
    except PlcPortError as error:
        raise PlcPortError(f"nobody serves Modbus on {host}:{plc.tcp_port}: start inspector plc") from error
    with closing(memory):
        yield memory


def _read(memory: PlcMemory, plc: Plc) -> tuple[list[int], PlcInputs]:
    words, inputs = memory.read_from_station(), inputs_of(memory.read_to_station())
    if plc.client is None and not outputs_checked(words):
        raise PlcPortError(f"{memory.where}: these are not the station's registers: is it another device?")
    return words, inputs


def _name(kind: type[IntEnum], value: int) -> str:
    return kind(value).name if value in set(kind) else str(value)
