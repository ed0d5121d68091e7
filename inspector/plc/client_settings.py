"""The tables of station.toml for PLCs whose memory the station reads and writes as a client. Knows no protocol."""

import re

from pydantic import Field, field_validator, model_validator

from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS
from inspector.table import Table

_WORD = 2  # bytes
_TAG = re.compile(r"(Program:[A-Za-z_]\w*\.)?[A-Za-z_]\w*", re.ASCII)


class ClientSettings(Table):
    """What all of them have."""

    poll_ms: float = Field(
        10,
        ge=1,
        le=100,
        title="Poll",
        description="so often ToStation is read; a trigger is seen so much later at most",
    )


class ModbusClientSettings(ClientSettings):
    """Where the two blocks lie in a PLC that is a Modbus TCP server."""

    unit: int = Field(1, ge=0, le=255, title="Unit id", description="of the PLC, or of the device behind a gateway")
    to_station: int = Field(
        0,
        ge=0,
        le=0x10000 - INPUT_REGISTERS,
        title="ToStation",
        description="address, from 0, of the first of the 19 holding registers that the PLC's program writes",
    )
    from_station: int = Field(
        100,
        ge=0,
        le=0x10000 - OUTPUT_REGISTERS,
        title="FromStation",
        description="address, from 0, of the first of the 40 holding registers that the station writes",
    )

    @model_validator(mode="after")
    def _apart(self) -> "ModbusClientSettings":
        _check_apart(self.to_station, INPUT_REGISTERS, self.from_station, OUTPUT_REGISTERS, "registers")
        return self


class S7Settings(ClientSettings):
    """Where the two blocks lie in a Siemens S7 PLC."""

    rack: int = Field(0, ge=0, le=7, title="Rack", description="of the CPU; 0 but in a large S7-400")
    slot: int = Field(1, ge=0, le=31, title="Slot", description="of the CPU: 1 for S7-1200 and S7-1500, 2 for S7-300")
    db: int = Field(ge=1, le=65535, title="Data block", description="number of the one that holds both blocks")
    to_station: int = Field(
        0, ge=0, le=65534, multiple_of=_WORD, title="ToStation", description="byte offset of its 19 words in it"
    )
    from_station: int = Field(
        INPUT_REGISTERS * _WORD,
        ge=0,
        le=65534,
        multiple_of=_WORD,
        title="FromStation",
        description="byte offset of its 40 words in it",
    )

    @model_validator(mode="after")
    def _apart(self) -> "S7Settings":
        sizes = INPUT_REGISTERS * _WORD, OUTPUT_REGISTERS * _WORD
        _check_apart(self.to_station, sizes[0], self.from_station, sizes[1], "bytes")
        return self


class EthernetIpSettings(ClientSettings):
    """Which tags of a Logix controller the two blocks are."""

    slot: int = Field(0, ge=0, le=31, title="Slot", description="of the controller in its chassis")
    to_station: str = Field("ToStation", title="ToStation", description="tag, DINT[19], that the PLC's program writes")
    from_station: str = Field("FromStation", title="FromStation", description="tag, DINT[40], that the station writes")

    @field_validator("to_station", "from_station")
    @classmethod
    def _a_tag(cls, name: str) -> str:
        if not _TAG.fullmatch(name):
            raise ValueError("must be the name of a tag, without an index: ToStation, or Program:MainProgram.ToStation")
        return name

    @model_validator(mode="after")
    def _apart(self) -> "EthernetIpSettings":
        if self.to_station == self.from_station:
            raise ValueError("to_station and from_station must be two tags")
        return self


def _check_apart(to_station: int, length: int, from_station: int, other: int, unit: str) -> None:
    if to_station < from_station + other and from_station < to_station + length:
        raise ValueError(
            f"to_station ({to_station}, {length} {unit}) and from_station ({from_station}, {other} {unit}) overlap"
        )
