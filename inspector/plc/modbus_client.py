"""The memory of a PLC that is a Modbus TCP server. Knows registers and a socket, nothing of inspection."""

import logging
from collections.abc import Sequence

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from inspector.plc import PlcPortError
from inspector.plc.client_settings import ModbusClientSettings
from inspector.plc.memory import TIMEOUT_S
from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs every request that a PLC does not answer


class ModbusMemory:
    """Holding registers, by FC3 and FC16."""

    def __init__(self, host: str, port: int, settings: ModbusClientSettings) -> None:
        self._settings = settings
        self._client = ModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=0)
        self.where = f"Modbus TCP, {host}:{port}, unit {settings.unit}"

    def open(self) -> None:
        """Connect; as `PlcMemory.open`."""
        if not self._client.connect():  # type: ignore[no-untyped-call]
            raise PlcPortError(
                f"{self.where}: nobody answers: is the PLC's Modbus server running? Correct plc.host or plc.port"
            )

    def read_to_station(self) -> list[int]:
        """As `PlcMemory.read_to_station`."""
        return self._read("to_station", self._settings.to_station, INPUT_REGISTERS)

    def read_from_station(self) -> list[int]:
        """As `PlcMemory.read_from_station`."""
        return self._read("from_station", self._settings.from_station, OUTPUT_REGISTERS)

    def write_from_station(self, first: int, words: Sequence[int]) -> None:
        """As `PlcMemory.write_from_station`."""
        address = self._settings.from_station + first
        try:
            answer = self._client.write_registers(address, list(words), device_id=self._settings.unit)
        except (ModbusException, OSError) as error:  # it lets a reset through
            raise PlcPortError(f"{self.where}: {error}") from error
        self._check(answer, "from_station", address, len(words))

    def close(self) -> None:
        """Disconnect."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _read(self, key: str, address: int, count: int) -> list[int]:
        try:
            answer = self._client.read_holding_registers(address, count=count, device_id=self._settings.unit)
        except (ModbusException, OSError) as error:  # it lets a reset through
            raise PlcPortError(f"{self.where}: {error}") from error
        self._check(answer, key, address, count)
        if len(answer.registers) != count:
            raise PlcPortError(f"{self.where}: answers {len(answer.registers)} registers instead of {count}")
        return list(answer.registers)

    def _check(self, answer: ModbusPDU, key: str, address: int, count: int) -> None:
        if answer.isError():
            raise PlcPortError(
                f"{self.where}: refuses holding registers {address}-{address + count - 1} ({answer}): make them in the "
                f"PLC, or correct plc.modbus_client.{key}"
            )
