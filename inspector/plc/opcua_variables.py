"""Map 1.0 as OPC UA variables: one a field and one a bit, named in PascalCase. Pure, and knows no OPC UA library."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Literal, TypeAlias

from inspector.plc import MAP_VERSION, Command, PlcInputs, PlcOutputs, Reason, StatusBit
from inspector.plc.handshake import ID_LENGTH

Kind = Literal["Boolean", "UInt16", "UInt32", "Float", "String"]  # built-in types of OPC UA
Value: TypeAlias = bool | int | float | str

_LARGEST = {"UInt16": 0xFFFF, "UInt32": 0xFFFFFFFF}


def _pascal(name: str) -> str:
    return name.title().replace("_", "")


_STATUS = {_pascal(str(bit.name)): bit for bit in StatusBit}
_COMMANDS = {_pascal(str(bit.name)): bit for bit in Command}
_OTHER_INPUTS = {_pascal(field.name): field.name for field in fields(PlcInputs) if field.name != "command"}

# What belongs to one result. ResultValid and ResultSeq are the last of all, so that whoever follows changes one by one
# has seen the rest of a result when these two change.
_RESULT: dict[str, Kind] = {
    "Ok": "Boolean",
    "Ng": "Boolean",
    "Outcome": "UInt16",
    "OutcomeInverse": "UInt16",
    "Reason": "UInt16",
    "ReasonText": "String",
    "Score": "Float",
    "InspectionMs": "UInt16",
    "PartId": "String",
    "Encoder": "UInt32",
    "TotalCount": "UInt32",
    "NgCount": "UInt32",
    "NotInspectedCount": "UInt32",
    "ResultSeq": "UInt16",
    "ResultValid": "Boolean",
}
RESULT = frozenset(_RESULT)

OUTPUTS: dict[str, Kind] = {
    "MapVersion": "UInt16",
    "BootId": "UInt16",
    **{name: "Boolean" for name in _STATUS if name not in _RESULT},
    "Heartbeat": "UInt16",
    "PlcHeartbeat": "UInt16",
    "TriggerSeq": "UInt16",
    "Recipe": "UInt16",
    "RecipeRevision": "UInt16",
    "ModelId": "UInt16",
    "QueueDepth": "UInt16",
    "ErrorCode": "UInt16",
    "WarningCode": "UInt16",
    "OpcState": "UInt16",
    **_RESULT,
}
INPUTS: dict[str, Kind] = {
    **dict.fromkeys(_COMMANDS, "Boolean"),
    "Heartbeat": "UInt16",
    "ResultAckSeq": "UInt16",
    "RecipeRequest": "UInt16",
    "RecipeRequestSeq": "UInt16",
    "PartId": "String",
    "Encoder": "UInt32",
    "DeadlineMs": "UInt16",
    "TriggerSeq": "UInt16",
}


def output_values(outputs: PlcOutputs) -> dict[str, Value]:
    """The station's variables, in the order in which they are to be written."""
    values: dict[str, Value] = {
        **{name: bit in outputs.status for name, bit in _STATUS.items()},
        "MapVersion": MAP_VERSION,
        "BootId": outputs.boot_id,
        "Heartbeat": outputs.heartbeat,
        "PlcHeartbeat": outputs.plc_heartbeat,
        "TriggerSeq": outputs.trigger_seq,
        "Recipe": outputs.recipe,
        "RecipeRevision": outputs.recipe_revision,
        "ModelId": outputs.model_id,
        "QueueDepth": outputs.queue_depth,
        "ErrorCode": outputs.error_code,
        "WarningCode": outputs.warning_code,
        "OpcState": outputs.opc_state,
        "Outcome": int(outputs.outcome),
        "OutcomeInverse": outputs.outcome ^ 0xFFFF,
        "Reason": int(outputs.reason),
        "ReasonText": _words(outputs.reason),
        "Score": outputs.score,
        "InspectionMs": min(outputs.inspection_ms, 0xFFFF),
        "PartId": outputs.part_id,
        "Encoder": outputs.encoder,
        "TotalCount": outputs.counters.total & 0xFFFFFFFF,
        "NgCount": outputs.counters.ng & 0xFFFFFFFF,
        "NotInspectedCount": outputs.counters.not_inspected & 0xFFFFFFFF,
        "ResultSeq": outputs.result_seq,
    }
    return {name: values[name] for name in OUTPUTS}


def input_values(inputs: PlcInputs) -> dict[str, Value]:
    """The PLC's variables, as they stand."""
    commands = {name: bit in inputs.command for name, bit in _COMMANDS.items()}
    return commands | {name: getattr(inputs, field) for name, field in _OTHER_INPUTS.items()}


def written(inputs: PlcInputs, values: Mapping[str, Value]) -> PlcInputs:
    """The PLC's variables after these were written, all at once."""
    command = inputs.command
    for name in values.keys() & _COMMANDS.keys():
        command = command | _COMMANDS[name] if values[name] else command & ~_COMMANDS[name]
    others = {_OTHER_INPUTS[name]: value for name, value in values.items() if name in _OTHER_INPUTS}
    return replace(inputs, command=command, **others)  # type: ignore[arg-type]  # `fits` has seen each value


def fits(name: str, value: object) -> bool:
    """Whether the PLC may write this value to this variable of its own."""
    kind = INPUTS[name]
    if kind == "Boolean":
        return isinstance(value, bool)
    if kind == "String":
        return isinstance(value, str) and len(value) <= ID_LENGTH and value.isprintable()
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST[kind]


def _words(reason: Reason) -> str:
    return reason.name.lower().replace("_", " ") if reason else ""
