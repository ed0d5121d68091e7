"""What a PLC and a station say to each other, whatever the protocol: commands one way, results the other. Pure."""

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

MAP_VERSION = 0x0100
MOST_TRIGGERS = 0xFFFF  # TriggerSeq counts from 1 to this, and then from 1 again; 0 is none


class PlcPortError(Exception):
    """The PLC's protocol cannot be served or read; the text names address or key and says what to do."""


class Command(IntFlag):
    """Bits that the PLC sets."""

    ENABLE = 1 << 0
    ERROR_RESET = 1 << 1
    ABORT = 1 << 2
    STOP = 1 << 3
    COUNTER_RESET = 1 << 4


class StatusBit(IntFlag):
    """Bits that the station sets."""

    READY = 1 << 0
    BUSY = 1 << 1
    TRIGGER_ACK = 1 << 2
    RESULT_VALID = 1 << 3
    OK = 1 << 4
    NG = 1 << 5
    ERROR = 1 << 6
    WARNING = 1 << 7
    RECIPE_ACK = 1 << 8
    RECIPE_ACTIVE = 1 << 9
    CHANGEOVER_BUSY = 1 << 10
    ONLINE = 1 << 11
    BYPASS = 1 << 12
    RESULT_OVERRUN = 1 << 13
    TRIGGER_MISSED = 1 << 14
    PLC_HEARTBEAT_LOST = 1 << 15


NO_COMMAND, NO_STATUS = Command(0), StatusBit(0)


class Outcome(IntEnum):
    """The verdict register."""

    NONE = 0
    OK = 1
    NG = 2
    NOT_INSPECTED = 3


class Reason(IntEnum):
    """Why a part is not OK."""

    NONE = 0
    OVER_THRESHOLD = 1
    TIMEOUT = 2
    CAMERA = 3
    MODEL = 4
    NO_RECIPE = 5
    IMAGE_QUALITY = 6
    OUT_OF_DISTRIBUTION = 7
    STALE_TRIGGER = 8  # a trigger while the station was not ready
    OVERRUN = 9  # more parts under way than the station takes
    ABORTED = 10
    NOT_JOURNALLED = 11


@dataclass(frozen=True, slots=True)
class PlcInputs:
    """What the PLC has written, all of one moment."""

    command: Command = NO_COMMAND
    heartbeat: int = 0
    trigger_seq: int = 0
    result_ack_seq: int = 0
    recipe_request: int = 0
    recipe_request_seq: int = 0
    part_id: str = ""
    encoder: int = 0
    deadline_ms: int = 0  # 0: the station's own


@dataclass(frozen=True, slots=True)
class Counters:
    """Parts since the last reset."""

    total: int = 0
    ng: int = 0
    not_inspected: int = 0


@dataclass(frozen=True, slots=True)
class PlcOutputs:
    """What the PLC is to read, all of one moment."""

    status: StatusBit = NO_STATUS
    heartbeat: int = 0
    plc_heartbeat: int = 0
    trigger_seq: int = 0
    result_seq: int = 0
    outcome: Outcome = Outcome.NONE
    reason: Reason = Reason.NONE
    score: float = 0.0
    inspection_ms: int = 0
    recipe: int = 0
    recipe_revision: int = 0
    model_id: int = 0
    queue_depth: int = 0
    part_id: str = ""
    counters: Counters = field(default_factory=Counters)
    error_code: int = 0
    warning_code: int = 0
    opc_state: int = 0
    boot_id: int = 0
    encoder: int = 0
