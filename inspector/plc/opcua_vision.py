"""OPC 40100-1 (Machine Vision) beside the plain variables: a vision system's state, and an event for each result.

The types come from the standard's own file. Of them there is one VisionSystem here, for supervisors to watch: parts are
triggered by the plain variables and methods alone, the standard's own methods say that they are not supported. Its
ResultState tells how the job went; the verdict is in ResultContent.
"""

import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import IntEnum, StrEnum
from pathlib import Path

from asyncua import ua
from asyncua.common.events import Event
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from inspector.plc import Outcome, PlcOutputs, PlcPortError, Reason, StatusBit
from inspector.plc.opcua_access import status
from inspector.plc.opcua_variables import OUTPUTS, RESULT, output_values

log = logging.getLogger(__name__)

NODESET = "Opc.Ua.MachineVision.NodeSet2.xml"
NAMESPACE = "http://opcfoundation.org/UA/MachineVision"
_STRUCTURES = ("ProcessingTimesDataType", "ResultIdDataType", "JobIdDataType", "PartIdDataType")
_DERIVED = ("RecipeIdInternalDataType", "ConfigurationIdDataType")  # without fields of their own
_BASE = "BinaryIdBaseDataType"
SEVERITY = {Outcome.OK: 100, Outcome.NG: 300, Outcome.NOT_INSPECTED: 500}  # of 1 to 1000


class State(StrEnum):
    """States of the vision system; the last four are those of its automatic mode."""

    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"
    ERROR = "Error"
    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"


AUTOMATIC = {State.INITIALIZED, State.READY, State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION}


class ResultState(IntEnum):
    """How the job went, whatever the part is like."""

    COMPLETED = 1
    ABORTED = 3
    FAILED = 4


def state_of(outputs: PlcOutputs) -> State:
    """The state that the status bits amount to.

    Every part is triggered, so the station is never in ContinuousExecution; and it is never Halted, as it is then gone.
    """
    bits = outputs.status
    if StatusBit.ERROR in bits:
        return State.ERROR
    if StatusBit.ONLINE not in bits:
        return State.PREOPERATIONAL
    if StatusBit.BUSY in bits:
        return State.SINGLE_EXECUTION
    return State.READY if StatusBit.READY in bits else State.INITIALIZED


def result_state_of(outputs: PlcOutputs) -> ResultState:
    """A part that was not inspected is a job that failed; an NG part is a job that was completed."""
    if outputs.outcome is not Outcome.NOT_INSPECTED:
        return ResultState.COMPLETED
    return ResultState.ABORTED if outputs.reason is Reason.ABORTED else ResultState.FAILED


@dataclass(frozen=True, slots=True)
class _Machine:
    """A state machine in the address space."""

    current: ua.NodeId  # the state's name
    identity: ua.NodeId  # the state's node, which belongs to the type
    states: dict[str, ua.NodeId]


class VisionSystem:
    """One object of VisionSystemType that follows the station."""

    def __init__(
        self,
        server: Server,
        system: ua.NodeId,
        machine: _Machine,
        automatic: _Machine,
        event: Event,
        structures: dict[str, type],
    ) -> None:
        self._server = server
        self._system = system
        self._machine = machine
        self._automatic = automatic
        self._event = event
        self._structures = structures
        self._state: State | None = None
        self._result_seq = 0  # of the result that is shown; 0: none
        self._results = 0

    async def show(self, outputs: PlcOutputs) -> None:
        """Follow the station; a result that was not shown before is an event."""
        state = state_of(outputs)
        if state is not self._state:
            self._state = state
            await self._enter(self._machine, "Operational" if state in AUTOMATIC else state)
            await self._enter(self._automatic, state if state in AUTOMATIC else None)
        shown = outputs.result_seq if StatusBit.RESULT_VALID in outputs.status else 0
        is_new, self._result_seq = shown not in {0, self._result_seq}, shown
        if is_new:
            self._results += 1
            now = ua.DateTime.now(UTC)
            await self._send(_plain_fields(outputs, now) | self._structured_fields(outputs, now))

    def _structured_fields(self, outputs: PlcOutputs, now: ua.DateTime) -> dict[str, ua.Variant]:
        made = self._structures
        boot, started = outputs.boot_id, now - timedelta(milliseconds=outputs.inspection_ms)
        recipe, revision = str(outputs.recipe), str(outputs.recipe_revision)
        fields = {
            "ResultId": made["ResultIdDataType"](Id=f"{boot}-{self._results}"),
            "JobId": made["JobIdDataType"](Id=f"{boot}-{outputs.result_seq}"),
            "PartId": made["PartIdDataType"](Id=outputs.part_id),
            "InternalRecipeId": made["RecipeIdInternalDataType"](Id=recipe, Version=revision),
            "InternalConfigurationId": made["ConfigurationIdDataType"](Id=str(outputs.model_id)),
            "ProcessingTimes": made["ProcessingTimesDataType"](StartTime=started, EndTime=now),
            "ResultContent": _content(outputs, self._system.NamespaceIndex),
        }
        return {name: ua.Variant(value, ua.VariantType.ExtensionObject) for name, value in fields.items()}

    async def _enter(self, machine: _Machine, state: str | None) -> None:
        """Show this state; a machine that is in none, as the one above it is in another, has no value."""
        now = ua.DateTime.now(UTC)
        code = status(StatusCodes.Good if state is not None else StatusCodes.BadStateNotActive)
        name = ua.Variant(ua.LocalizedText(state), ua.VariantType.LocalizedText)
        node = ua.Variant(machine.states[state] if state is not None else ua.NodeId(), ua.VariantType.NodeId)
        await self._server.write_attribute_value(machine.current, ua.DataValue(name, code, now, now))
        await self._server.write_attribute_value(machine.identity, ua.DataValue(node, code, now, now))

    async def _send(self, fields: dict[str, ua.Variant]) -> None:
        """Send the event to whoever follows the vision system, or the whole server."""
        for name, value in fields.items():
            self._event.add_property(name, value.Value, value.VariantType)
        for source in (self._system, ua.NodeId(ua.Int32(ObjectIds.Server))):
            self._event.emitting_node = source
            for subscription in list(self._server.iserver.subscription_service.subscriptions.values()):
                try:
                    await subscription.monitored_item_srv.trigger_event(self._event)
                except Exception as error:  # noqa: BLE001  # asyncua looks for whatever the client's filter names
                    log.warning("an OPC UA client's filter of events cannot be evaluated: %r", error)


def check_machine_vision(folder: Path) -> None:
    """See whether the standard's file is there, before a server is made that takes it.

    Raises:
        PlcPortError: it is not.
    """
    if not (folder / NODESET).is_file():
        raise PlcPortError(
            f"{folder / NODESET} is not there: correct plc.opcua.machine_vision, or remove it; npm's "
            "node-opcua-nodesets brings the file"
        )


async def load_machine_vision(server: Server, folder: Path, index: int) -> VisionSystem:
    """Import the standard's types and make the object `VisionSystem`, in the namespace of this index.

    Raises:
        PlcPortError: the file cannot be imported.
    """
    try:
        await server.import_xml(str(folder / NODESET))
        types = await server.get_namespace_index(NAMESPACE)
    except (OSError, SyntaxError, ValueError, UaError) as error:  # a SyntaxError is one of XML
        raise PlcPortError(
            f"{folder / NODESET} cannot be imported ({error}): put the file of OPC 40100-1 there, or remove "
            "plc.opcua.machine_vision"
        ) from error
    structures = await _structures(server, types)
    kind = await server.nodes.base_object_type.get_child(f"{types}:VisionSystemType")
    system = await server.nodes.objects.add_object(
        ua.NodeId(ua.String("VisionSystem"), ua.Int16(index)), f"{index}:VisionSystem", kind.nodeid,
        instantiate_optional=False,
    )  # fmt: skip
    machine = await system.get_child(f"{types}:VisionStateMachine")
    machine_kind = server.get_node(await machine.read_type_definition() or ua.NodeId())
    declared = await machine_kind.get_child(f"{types}:AutomaticModeStateMachine")
    automatic_kind = server.get_node(await declared.read_type_definition() or ua.NodeId())
    automatic = await machine.add_object(
        ua.NodeId(ua.String("VisionSystem.Automatic"), ua.Int16(index)), await declared.read_browse_name(),
        automatic_kind.nodeid, instantiate_optional=False,
    )  # fmt: skip
    for method in [*await machine.get_methods(), *await automatic.get_methods()]:
        server.link_method(method, _unsupported)
    event_kind = await server.nodes.base_event_type.get_child(f"{types}:ResultReadyEventType")
    generator = await server.get_event_generator(event_kind, system.nodeid)  # says that there are events of this type
    return VisionSystem(
        server,
        system.nodeid,
        await _machine(machine, machine_kind, types, [state for state in State if state not in AUTOMATIC]),
        await _machine(automatic, automatic_kind, types, list(AUTOMATIC)),
        generator.event,
        structures,
    )


async def _structures(server: Server, types: int) -> dict[str, type]:
    """The standard's structures by name, as asyncua has made classes of them at the import.

    Those that add no field to their base have no class of their own there; the base would be sent in their place.
    """
    base = getattr(ua, _BASE)
    structure = server.get_node(ua.NodeId(ua.Int32(ObjectIds.Structure)))
    base_node = await structure.get_child(f"{types}:{_BASE}")
    found = {name: getattr(ua, name) for name in _STRUCTURES}
    for name in _DERIVED:
        node = await base_node.get_child(f"{types}:{name}")
        [encoding] = [
            each for each in await node.get_encoding_refs() if (await each.read_browse_name()).Name == "Default Binary"
        ]
        found[name] = type(name, (base,), {"data_type": node.nodeid})
        ua.register_extension_object(name, encoding.nodeid, found[name], node.nodeid)
    return found


async def _machine(machine: Node, kind: Node, types: int, states: list[State]) -> _Machine:
    current = await machine.get_child("0:CurrentState")
    identity = await current.get_child("0:Id")
    names = [*map(str, states), *([] if AUTOMATIC & set(states) else ["Operational"])]
    return _Machine(
        current.nodeid, identity.nodeid, {name: (await kind.get_child(f"{types}:{name}")).nodeid for name in names}
    )


async def _unsupported(_object: ua.NodeId, *_arguments: ua.Variant) -> ua.StatusCode:
    return status(StatusCodes.BadNotSupported)


def _plain_fields(outputs: PlcOutputs, now: ua.DateTime) -> dict[str, ua.Variant]:
    return {
        "EventId": ua.Variant(secrets.token_bytes(16)),
        "Time": ua.Variant(now, ua.VariantType.DateTime),
        "ReceiveTime": ua.Variant(now, ua.VariantType.DateTime),
        "CreationTime": ua.Variant(now, ua.VariantType.DateTime),
        "Message": ua.Variant(ua.LocalizedText(f"part {outputs.part_id}: {_verdict(outputs)}")),
        "Severity": ua.Variant(SEVERITY[outputs.outcome], ua.VariantType.UInt16),
        "IsPartial": ua.Variant(False),
        "IsSimulated": ua.Variant(StatusBit.BYPASS in outputs.status),
        "ResultState": ua.Variant(int(result_state_of(outputs)), ua.VariantType.Int32),
        **{name: ua.Variant(None, ua.VariantType.Null) for name in ("MeasId", "ProductId")},
    }


def _content(outputs: PlcOutputs, index: int) -> list[ua.KeyValuePair]:
    """The variables of a result by their names, the verdict among them."""
    return [
        ua.KeyValuePair(ua.QualifiedName(name, ua.UInt16(index)), ua.Variant(value, ua.VariantType[OUTPUTS[name]]))
        for name, value in output_values(outputs).items()
        if name in RESULT
    ]


def _verdict(outputs: PlcOutputs) -> str:
    return outputs.outcome.name.lower().replace("_", " ")
