"""The bridge's registers in a terminal, read over Modbus as the PLC reads them."""

import time
from collections.abc import Callable

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from rich.console import Console
from rich.live import Live
from rich.table import Table

from inspector.plc import Outcome, PlcInputs, PlcPortError, Reason, StatusBit
from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS, inputs_of, outputs_checked, text_of
from inspector.station import Station, plc_of

EVERY_S = 0.2
ANY_HOST = "0.0.0.0"  # noqa: S104 - served on; read from the loopback


def read_once(station: Station) -> tuple[list[int], PlcInputs]:
    """The station's registers and what the PLC has written.

    Raises:
        PlcPortError: nobody serves there, or something else than this map.
        StationError: the station has no PLC.
    """
    with _client(station) as client:
        return _read(client, station)


def monitor(station: Station, console: Console, stop: Callable[[], bool], seconds: float | None) -> None:
    """Show the registers until asked to stop or for so many seconds.

    Raises:
        PlcPortError: as `read_once`.
    """
    ends = time.monotonic() + (seconds if seconds is not None else float("inf"))
    with _client(station) as client, Live(console=console, auto_refresh=False) as live:
        while not stop() and time.monotonic() < ends:
            live.update(table_of(*_read(client, station)), refresh=True)
            time.sleep(EVERY_S)


def table_of(words: list[int], inputs: PlcInputs) -> Table:
    """Both directions, by name."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("station", "", "PLC", ""):
        table.add_column(heading, overflow="fold")
    status = StatusBit(words[1])
    station = {
        "status": " ".join(bit.name or "" for bit in StatusBit if bit in status) or "-",
        "heartbeat": str(words[2]),
        "trigger, result": f"{words[4]}, {words[5]}",
        "verdict": f"{Outcome(words[6]).name} ({Reason(words[8]).name})" if words[6] in set(Outcome) else str(words[6]),
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
        "": "",
    }
    for (name, value), (other, written) in zip(station.items(), plc.items(), strict=True):
        table.add_row(name, value, other, written)
    return table


def _client(station: Station) -> ModbusTcpClient:
    plc = plc_of(station)
    host = "127.0.0.1" if plc.host == ANY_HOST else plc.host
    if plc.protocol != "modbus":
        raise PlcPortError(f"opc.tcp://{host}:{plc.served_port} is looked at with an OPC UA client: UaExpert, for one")
    client = ModbusTcpClient(host, port=plc.served_port, timeout=2)
    if not client.connect():  # type: ignore[no-untyped-call]
        raise PlcPortError(f"nobody serves Modbus on {host}:{plc.served_port}: start inspector plc")
    return client


def _read(client: ModbusTcpClient, station: Station) -> tuple[list[int], PlcInputs]:
    port = plc_of(station).served_port
    try:
        outputs = client.read_input_registers(0, count=OUTPUT_REGISTERS)
        inputs = client.read_holding_registers(0, count=INPUT_REGISTERS)
    except ModbusException as error:
        raise PlcPortError(f"the registers on port {port} cannot be read: {error}") from error
    if outputs.isError() or inputs.isError() or not outputs_checked(outputs.registers):
        raise PlcPortError(f"what is on port {port} does not have the station's registers: is it another device?")
    return list(outputs.registers), inputs_of(inputs.registers)
