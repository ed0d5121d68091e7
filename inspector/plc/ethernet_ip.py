"""The memory of a Logix controller: two tags, over EtherNet/IP. Knows tags and a socket, nothing of inspection."""

import struct
from collections.abc import Sequence

from pylogix import PLC

from inspector.plc import PlcPortError
from inspector.plc.client_settings import EthernetIpSettings
from inspector.plc.memory import TIMEOUT_S
from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS

SUCCESS = "Success"


class EthernetIpMemory:
    """Two arrays of DINT, a word each: Logix has no unsigned 16 bits, and its INT would show 16#FFFE as -2."""

    def __init__(self, host: str, port: int, settings: EthernetIpSettings) -> None:
        self._address = (host, port)
        self._settings = settings
        self._client: PLC | None = None
        self.where = f"EtherNet/IP, {host}:{port}, slot {settings.slot}"

    def open(self) -> None:
        """Connect and look at both tags; as `PlcMemory.open`."""
        host, port = self._address
        self._client = PLC(host, slot=self._settings.slot, timeout=TIMEOUT_S, port=port)
        self.read_to_station()
        self.read_from_station()

    def read_to_station(self) -> list[int]:
        """As `PlcMemory.read_to_station`."""
        return self._read("to_station", self._settings.to_station, INPUT_REGISTERS)

    def read_from_station(self) -> list[int]:
        """As `PlcMemory.read_from_station`."""
        return self._read("from_station", self._settings.from_station, OUTPUT_REGISTERS)

    def write_from_station(self, first: int, words: Sequence[int]) -> None:
        """As `PlcMemory.write_from_station`."""
        tag = self._settings.from_station
        try:
            answer = self._connected().Write(f"{tag}[{first}]", list(words))
        except (OSError, struct.error) as error:
            raise PlcPortError(f"{self.where}: {tag}: {error}") from error
        if answer.Status != SUCCESS:
            raise PlcPortError(
                f"{self.where}: {tag} cannot be written ({answer.Status}): its External Access must be Read/Write"
            )

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.Close()
            self._client.conn.msg_socket.close()  # the library opens it, for what is not used here, and forgets it
            self._client = None

    def _read(self, key: str, tag: str, count: int) -> list[int]:
        client = self._connected()
        try:
            answer = client.Read(tag, count)
        except (OSError, struct.error) as error:
            raise PlcPortError(f"{self.where}: {tag}: {error}") from error
        if answer.Status != SUCCESS:
            raise PlcPortError(
                f"{self.where}: {tag} cannot be read ({answer.Status}): is the controller there (plc.host, "
                f"plc.ethernet_ip.slot), and has it a tag DINT[{count}] of this name (plc.ethernet_ip.{key})?"
            )
        kind = client.CIPTypes[client.KnownTags[tag][0]][1]
        if kind != "DINT" or not all(0 <= value <= 0xFFFF for value in answer.Value):
            raise PlcPortError(
                f"{self.where}: {tag} is {kind} and holds {min(answer.Value)} to {max(answer.Value)}: make it "
                f"DINT[{count}] with words from 0 to 65535"
            )
        return list(answer.Value)

    def _connected(self) -> PLC:
        if self._client is None:
            raise PlcPortError(f"{self.where}: is not connected")
        return self._client
