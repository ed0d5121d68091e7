"""Sparkplug B's payload: metrics to bytes and back, with Google's protobuf. Pure.

The messages are described here field by field, as the specification numbers them (Sparkplug 3.0, 6.4.1), and only as
far as an edge node without devices needs them; protobuf skips the fields that it is not told of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from inspector.mqtt import MqttError

Value = bool | int | float | str


class DataType(IntEnum):
    """Sparkplug's numbers of the types that a station uses (6.4.16)."""

    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True, slots=True)
class Metric:
    """One named value."""

    name: str
    kind: DataType
    value: Value | None  # None: there is none
    timestamp_ms: int  # UTC, when it came to be so
    historical: bool = False  # a value for the record, not the present one


@dataclass(frozen=True, slots=True)
class Payload:
    """What a Sparkplug message carries."""

    timestamp_ms: int  # UTC, when it was sent
    metrics: tuple[Metric, ...]
    seq: int | None = None  # NDEATH and NCMD have none


_VALUE_FIELDS = {
    DataType.INT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}


def encode(payload: Payload) -> bytes:
    """Give the bytes; integers are those from 0 to 2**63 - 1."""
    plain: dict[str, Any] = {
        "timestamp": payload.timestamp_ms,
        "metrics": [_plain(metric) for metric in payload.metrics],
    }
    if payload.seq is not None:
        plain["seq"] = payload.seq
    return ParseDict(plain, _Payload()).SerializeToString()


def decode(data: bytes) -> Payload:
    """Read the bytes; metrics without a name, or of a type that no station uses, are left out.

    Raises:
        MqttError: they are no payload.
    """
    message = _Payload()
    try:
        message.ParseFromString(data)
        plain = MessageToDict(message, preserving_proto_field_name=True)
    except (DecodeError, UnicodeDecodeError) as error:
        raise MqttError(f"{len(data)} bytes are no Sparkplug B payload: {error}") from error
    seq = plain.get("seq")
    return Payload(
        int(plain.get("timestamp", 0)),
        tuple(_metrics(plain.get("metrics", []))),
        None if seq is None else int(seq),
    )


def _plain(metric: Metric) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": metric.name, "timestamp": metric.timestamp_ms, "datatype": metric.kind.value}
    if metric.historical:
        plain["is_historical"] = True
    if metric.value is None:
        return plain | {"is_null": True}
    return plain | {_VALUE_FIELDS[metric.kind]: metric.value}


def _metrics(plain: Sequence[dict[str, Any]]) -> Iterator[Metric]:
    for metric in plain:
        if "name" not in metric or metric.get("datatype") not in set(DataType):
            continue
        kind = DataType(metric["datatype"])
        value = metric.get(_VALUE_FIELDS[kind])
        if value is not None and kind in {DataType.INT64, DataType.DOUBLE}:
            value = int(value) if kind is DataType.INT64 else float(value)  # JSON has 64 bit numbers as text
        historical = metric.get("is_historical", False)
        yield Metric(metric["name"], kind, value, int(metric.get("timestamp", 0)), historical)


_Type = FieldDescriptorProto.Type
_PAYLOAD_FIELDS = {
    "timestamp": (1, _Type.TYPE_UINT64),
    "metrics": (2, _Type.TYPE_MESSAGE),
    "seq": (3, _Type.TYPE_UINT64),
}
_METRIC_FIELDS = {
    "name": (1, _Type.TYPE_STRING),
    "timestamp": (3, _Type.TYPE_UINT64),
    "datatype": (4, _Type.TYPE_UINT32),
    "is_historical": (5, _Type.TYPE_BOOL),
    "is_null": (7, _Type.TYPE_BOOL),
}
_METRIC_VALUE = {
    "long_value": (11, _Type.TYPE_UINT64),
    "double_value": (13, _Type.TYPE_DOUBLE),
    "boolean_value": (14, _Type.TYPE_BOOL),
    "string_value": (15, _Type.TYPE_STRING),
}


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="sparkplug_b.proto", package="org.eclipse.tahu.protobuf", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    _add_fields(payload, _PAYLOAD_FIELDS)
    _add_fields(metric, _METRIC_FIELDS)
    _add_fields(metric, _METRIC_VALUE, oneof=0)
    return file


def _add_fields(
    message: DescriptorProto, fields: dict[str, tuple[int, "_Type.ValueType"]], oneof: int | None = None
) -> None:
    for name, (number, kind) in fields.items():
        field = message.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind == _Type.TYPE_MESSAGE:
            field.label = FieldDescriptorProto.LABEL_REPEATED
            field.type_name = ".org.eclipse.tahu.protobuf.Payload.Metric"
        if oneof is not None:
            field.oneof_index = oneof


_pool = DescriptorPool()  # of our own: another library may have Sparkplug's messages in the common one
_pool.AddSerializedFile(_file().SerializeToString())
_Payload = GetMessageClass(_pool.FindMessageTypeByName("org.eclipse.tahu.protobuf.Payload"))
