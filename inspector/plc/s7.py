"""The memory of a Siemens S7 PLC: one data block, by PUT and GET. Knows bytes and a socket, nothing of inspection."""

import logging
import struct
from collections.abc import Sequence

from snap7 import Client
from snap7.error import S7Error

from inspector.plc import PlcPortError
from inspector.plc.client_settings import S7Settings
from inspector.plc.memory import TIMEOUT_S
from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS

logging.getLogger("snap7").setLevel(logging.CRITICAL)  # it logs every connection that a PLC drops


class S7Memory:
    """Words in a data block that is not optimised."""

    def __init__(self, host: str, port: int, settings: S7Settings) -> None:
        self._address = (host, port)
        self._settings = settings
        self._client = Client()
        self.where = f"S7, {host}:{port}, rack {settings.rack}, slot {settings.slot}, DB{settings.db}"

    def open(self) -> None:
        """Connect; as `PlcMemory.open`."""
        host, port = self._address
        try:
            self._client.connect(host, self._settings.rack, self._settings.slot, port)
        except (S7Error, OSError, struct.error) as error:
            raise PlcPortError(
                f"{self.where}: no connection ({error}): correct plc.host, plc.s7.rack or plc.s7.slot; is the PLC on?"
            ) from error
        if self._client.connection is not None and self._client.connection.socket is not None:
            self._client.connection.socket.settimeout(TIMEOUT_S)  # the library has 5 s and no setting

    def read_to_station(self) -> list[int]:
        """As `PlcMemory.read_to_station`."""
        return self._read(self._settings.to_station, INPUT_REGISTERS)

    def read_from_station(self) -> list[int]:
        """As `PlcMemory.read_from_station`."""
        return self._read(self._settings.from_station, OUTPUT_REGISTERS)

    def write_from_station(self, first: int, words: Sequence[int]) -> None:
        """As `PlcMemory.write_from_station`."""
        memory = bytearray(struct.pack(f">{len(words)}H", *words))
        try:
            self._client.db_write(self._settings.db, self._settings.from_station + 2 * first, memory)
        except (S7Error, OSError, struct.error) as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()

    def _read(self, first: int, count: int) -> list[int]:
        try:
            return list(struct.unpack(f">{count}H", self._client.db_read(self._settings.db, first, 2 * count)))
        except (S7Error, OSError, struct.error) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> PlcPortError:
        return PlcPortError(
            f"{self.where}: {error}: the data block must be there, long enough and not optimised, and PUT/GET permitted"
        )
