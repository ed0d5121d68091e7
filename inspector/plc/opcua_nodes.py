"""The object `Station` in the address space: what the station shows, what its clients write, and two methods."""

from collections.abc import Callable, Sequence
from datetime import UTC

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from inspector.plc import MOST_TRIGGERS, PlcInputs, PlcOutputs
from inspector.plc.opcua_access import status
from inspector.plc.opcua_users import Role
from inspector.plc.opcua_variables import (
    INPUTS,
    OUTPUTS,
    RESULT,
    Kind,
    Value,
    fits,
    input_values,
    output_values,
    written,
)

NAMESPACE = "urn:inspector:station"
TRIGGER: dict[str, Kind] = {name: INPUTS[name] for name in ("PartId", "Encoder", "DeadlineMs")}
MAY_WRITE = {
    Role.OBSERVER: frozenset[str](),
    Role.PLC: frozenset(INPUTS),
    Role.MAINTENANCE: frozenset({"ErrorReset", "CounterReset"}),
}


class StationNodes:
    """Shows `PlcOutputs`, and makes of all that is written one `PlcInputs` after the other.

    What one Write names is taken at once or not at all: a trigger never fires with half a part.
    """

    def __init__(self, server: Server, heard: Callable[[PlcInputs], None]) -> None:
        self._server = server
        self._heard = heard
        self._was_heard = False
        self._inputs = PlcInputs()
        self._latest: PlcOutputs | None = None
        self._shown: dict[str, Value] = {}
        self._outputs: dict[str, ua.NodeId] = {}
        self._writable: dict[ua.NodeId, str] = {}

    async def build(self, outputs: PlcOutputs) -> int:
        """Make the nodes, once, and say in which namespace; their names in NodeIds are the paths to them."""
        index = await self._server.register_namespace(NAMESPACE)
        station = await self._server.nodes.objects.add_object(_id("Station", index), _name("Station", index))
        self._shown = output_values(outputs)
        for name, value in self._shown.items():
            node = await _add(station, f"Station.{name}", name, OUTPUTS[name], value)
            self._outputs[name] = node.nodeid
        plc = await station.add_object(_id("Station.Plc", index), _name("Plc", index))
        for name, value in input_values(self._inputs).items():
            node = await _add(plc, f"Station.Plc.{name}", name, INPUTS[name], value)
            await node.set_writable()
            self._writable[node.nodeid] = name
        sequence = [_argument("TriggerSeq", "UInt16")]
        parts = [_argument(name, kind) for name, kind in TRIGGER.items()]
        result = [_argument("ResultSeq", "UInt16")]
        await station.add_method(_id("Station.Trigger", index), _name("Trigger", index), self._trigger, parts, sequence)
        await station.add_method(
            _id("Station.Acknowledge", index), _name("Acknowledge", index), self._acknowledge, result, []
        )
        return index

    async def show(self, outputs: PlcOutputs) -> None:
        """Write what has changed, without giving way to anybody: whoever reads or subscribes sees one moment."""
        if outputs == self._latest:
            return
        self._latest = outputs
        values = output_values(outputs)
        changed = {name for name, value in values.items() if value != self._shown[name]}
        if changed & RESULT:
            changed |= RESULT  # one result has one time stamp
        self._shown = values
        await self._write({self._outputs[name]: (OUTPUTS[name], values[name]) for name in values if name in changed})

    def refusals(self, items: Sequence[ua.WriteValue], role: Role) -> list[ua.StatusCode] | None:
        """Why these cannot be written; those that only share a Write with the others are in an invalid state."""
        codes = [self._refusal(item, role) for item in items]
        if not any(codes):
            return None
        return [status(code or StatusCodes.BadInvalidState) for code in codes]

    def take(self, items: Sequence[ua.WriteValue]) -> None:
        """What a client has written, all of one moment."""
        if items:
            self._say({self._writable[item.NodeId]: _plain(item.Value.Value) for item in items})

    def _refusal(self, item: ua.WriteValue, role: Role) -> int:
        """Why this cannot be written; 0 when it can."""
        name = self._writable.get(item.NodeId)
        if name is None:
            is_known = item.NodeId in self._server.iserver.aspace
            return StatusCodes.BadNotWritable if is_known else StatusCodes.BadNodeIdUnknown
        if item.AttributeId != AttributeIds.Value or item.IndexRange:
            return StatusCodes.BadWriteNotSupported
        if name not in MAY_WRITE[role]:
            return StatusCodes.BadUserAccessDenied
        if item.Value.StatusCode is not None and not item.Value.StatusCode.is_good():
            return StatusCodes.BadWriteNotSupported
        return _misfit(name, item.Value.Value)

    def _say(self, values: dict[str, Value]) -> None:
        self._inputs = written(self._inputs, values)
        self._was_heard = True
        self._heard(self._inputs)

    async def _trigger(self, _station: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
        """The method Trigger: the part's variables and the next TriggerSeq."""
        refused = _refused(list(TRIGGER), arguments)
        if refused is not None:
            return refused
        if not self._was_heard:
            self._say({})  # what a PLC says first is where it stands, and triggers nothing
        values = dict(zip(TRIGGER, map(_plain, arguments), strict=True))
        values["TriggerSeq"] = self._inputs.trigger_seq % MOST_TRIGGERS + 1
        await self._say_and_write(values)
        return ua.CallMethodResult(OutputArguments=[ua.Variant(values["TriggerSeq"], ua.VariantType.UInt16)])

    async def _acknowledge(self, _station: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
        """The method Acknowledge: of the result that is shown, and no other."""
        refused = _refused(["ResultAckSeq"], arguments)
        if refused is not None:
            return refused
        sequence = _plain(arguments[0])
        if sequence != self._shown["ResultSeq"] or not sequence:
            return ua.CallMethodResult(StatusCode=status(StatusCodes.BadInvalidArgument))
        await self._say_and_write({"ResultAckSeq": sequence})
        return ua.CallMethodResult()

    async def _say_and_write(self, values: dict[str, Value]) -> None:
        self._say(values)
        nodes = {name: node for node, name in self._writable.items()}
        await self._write({nodes[name]: (INPUTS[name], value) for name, value in values.items()})

    async def _write(self, values: dict[ua.NodeId, tuple[Kind, Value]]) -> None:
        now = ua.DateTime.now(UTC)
        for node, (kind, value) in values.items():
            variant = ua.Variant(value, ua.VariantType[kind])
            await self._server.write_attribute_value(
                node, ua.DataValue(variant, SourceTimestamp=now, ServerTimestamp=now)
            )


def _refused(names: Sequence[str], arguments: Sequence[ua.Variant]) -> ua.CallMethodResult | None:
    if len(arguments) != len(names):
        missing = len(arguments) < len(names)
        code = StatusCodes.BadArgumentsMissing if missing else StatusCodes.BadTooManyArguments
        return ua.CallMethodResult(StatusCode=status(code))
    codes = [_misfit(name, argument) for name, argument in zip(names, arguments, strict=True)]
    if not any(codes):
        return None
    return ua.CallMethodResult(
        StatusCode=status(StatusCodes.BadInvalidArgument), InputArgumentResults=[status(code) for code in codes]
    )


def _misfit(name: str, value: ua.Variant | None) -> int:
    """Why the PLC's variable cannot take this value; 0 when it can."""
    if value is None or value.is_array or value.VariantType is not ua.VariantType[INPUTS[name]]:
        return StatusCodes.BadTypeMismatch
    return 0 if fits(name, _plain(value)) else StatusCodes.BadOutOfRange


def _plain(value: ua.Variant | None) -> Value:
    """The value; OPC UA may send an empty text as null."""
    plain: Value | None = None if value is None else value.Value
    return "" if plain is None else plain


async def _add(parent: Node, path: str, name: str, kind: Kind, value: Value) -> Node:
    index = parent.nodeid.NamespaceIndex
    return await parent.add_variable(_id(path, index), _name(name, index), value, ua.VariantType[kind])


def _id(path: str, index: int) -> ua.NodeId:
    return ua.NodeId(ua.String(path), ua.Int16(index))


def _name(name: str, index: int) -> ua.QualifiedName:
    return ua.QualifiedName(name, ua.UInt16(index))


def _argument(name: str, kind: Kind) -> ua.Argument:
    return ua.Argument(Name=name, DataType=ua.NodeId(ua.Int32(ua.VariantType[kind])), ValueRank=ua.Int32(-1))
