"""What a station is: its camera, engine, recipes, bus, PLC and journal. Reads no file, and knows no device."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from inspector.camera.settings import CameraConfig
from inspector.mqtt.settings import MqttSettings
from inspector.plc.client_settings import ClientSettings, EthernetIpSettings, ModbusClientSettings, S7Settings
from inspector.plc.opcua_settings import OpcUaSettings
from inspector.table import BesideFile, Table, beside

EngineName = Literal["onnxruntime-cpu", "onnxruntime-cuda"]


class StationError(Exception):
    """The station file is wrong; the text names the file, every key at fault, and what to do."""


class Recipe(Table):
    """What is inspected, and how strictly."""

    name: str = Field(min_length=1, title="Name", description="of the product, as results carry it")
    bundle: BesideFile = Field(title="Bundle", description="folder of the trained model")
    number: int = Field(1, ge=1, le=65535, title="Number", description="of the recipe, as the PLC reads it")
    threshold: float | None = Field(
        None, title="Threshold", description="reject when score > threshold; absent: the bundle's own"
    )


class Bus(Table):
    """Where the station publishes and is asked: an ipc:// path, or tcp:// with [curve]."""

    result: str = Field(title="Results", description="endpoint of every verdict")
    view: str = Field(title="Views", description="endpoint of images and anomaly maps; lossy")
    status: str = Field(title="Status", description="endpoint of the heartbeat")
    decision: str = Field(title="Decisions", description="endpoint of every decision, without loss, from the journal")
    control: str = Field(title="Control", description="endpoint of triggers")

    @field_validator("result", "view", "status", "decision", "control")
    @classmethod
    def _local_endpoint(cls, endpoint: str, info: ValidationInfo) -> str:
        transport, _, address = endpoint.partition("://")
        if transport == "ipc" and address:
            return f"ipc://{beside(Path(address), info)}"
        host, _, port = address.rpartition(":")
        if transport == "tcp" and _is_address(host.strip("[]")) and port.isdigit():
            return endpoint
        raise ValueError(
            "must be ipc://PATH, or tcp://ADDRESS:PORT with an IP address: 0.0.0.0 is all of this machine's"
        )

    @model_validator(mode="after")
    def _different(self) -> "Bus":
        if len({self.result, self.view, self.status, self.decision, self.control}) < 5:
            raise ValueError("result, view, status, decision and control must be five different endpoints")
        return self


class Curve(Table):
    """Who may reach the endpoints with tcp://."""

    private_key: BesideFile = Field(
        title="Private key", description="NAME.key_secret, made by inspector bus key; its owner's alone"
    )
    clients: BesideFile = Field(title="Clients", description="folder with the public keys of those that may connect")


_PORTS = {"modbus": 502, "opcua": 4840, "modbus-client": 502, "s7": 102, "ethernet-ip": 44818}

_SAYS = {
    "opcua": "who may connect",
    "modbus-client": "where the PLC's registers are",
    "s7": "where the PLC's words are",
    "ethernet-ip": "which tags the PLC has",
}


class Plc(Table):
    """How the line's PLC talks to the station."""

    protocol: Literal["modbus", "opcua", "modbus-client", "s7", "ethernet-ip"] = Field(
        title="Protocol",
        description="modbus (Modbus TCP), opcua (OPC UA): the station is the server; modbus-client, s7, ethernet-ip: "
        "the station reads and writes the PLC's memory",
    )
    host: str = Field(
        "127.0.0.1", title="Host", description="address to serve on, 0.0.0.0: all of this machine's; or the PLC's own"
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        title="Port",
        description="absent: the protocol's own; to serve Modbus on 502 needs CAP_NET_BIND_SERVICE",
    )
    opcua: OpcUaSettings | None = Field(None, title="OPC UA", description="who may connect, for protocol = opcua")
    modbus_client: ModbusClientSettings | None = Field(
        None, title="Modbus client", description="where the PLC's registers are, for protocol = modbus-client"
    )
    s7: S7Settings | None = Field(None, title="S7", description="where the PLC's words are, for protocol = s7")
    ethernet_ip: EthernetIpSettings | None = Field(
        None, title="EtherNet/IP", description="which tags the PLC has, for protocol = ethernet-ip"
    )

    @model_validator(mode="after")
    def _with_its_table(self) -> "Plc":
        for protocol, says in _SAYS.items():
            table = protocol.replace("-", "_")
            if (self.protocol == protocol) is not (getattr(self, table) is not None):
                raise ValueError(f'protocol = "{protocol}" and [plc.{table}] belong together: it says {says}')
        if self.client is not None and "host" not in self.model_fields_set:
            raise ValueError(f'protocol = "{self.protocol}" needs host: the PLC\'s address')
        return self

    @property
    def client(self) -> ClientSettings | None:
        """The settings of a protocol of which the PLC is the server; None where the station is."""
        return self.modbus_client or self.s7 or self.ethernet_ip

    @property
    def tcp_port(self) -> int:
        """The port, or the protocol's own."""
        return self.port or _PORTS[self.protocol]


class Station(Table):
    """One camera, one engine, one recipe: everything that `inspector run` needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", title="Name", description="of the station, as messages carry it")
    camera: Annotated[CameraConfig, Field(discriminator="kind")] = Field(
        title="Camera", description="where frames come from"
    )
    engine: EngineName = Field("onnxruntime-cpu", title="Engine", description="the runtime and its device")
    recipe: Recipe = Field(title="Recipe", description="what is inspected, until another recipe is asked for")
    recipes: tuple[Recipe, ...] = Field((), title="Recipes", description="others that may be asked for, by number")
    bus: Bus = Field(title="Bus", description="where results, views and status are published")
    deadline_ms: float = Field(
        gt=0, title="Deadline", description="a part whose verdict takes longer since its exposure is a fault"
    )
    expose_within_ms: float = Field(
        100, gt=0, title="Exposure", description="a part exposed later than this after its trigger is not inspected"
    )
    journal: BesideFile = Field(title="Journal", description="SQLite file of every decision")
    plc: Plc | None = Field(None, title="PLC", description="absent: no PLC is served")
    mqtt: MqttSettings | None = Field(None, title="MQTT", description="absent: nothing is reported to a broker")
    curve: Curve | None = Field(
        None, title="CURVE", description="who may reach tcp:// endpoints; absent: there are none"
    )

    @model_validator(mode="after")
    def _triggers_are_seen_in_time(self) -> "Station":
        client = self.plc.client if self.plc is not None else None
        if client is not None and 2 * client.poll_ms > self.expose_within_ms:
            raise ValueError(
                f"poll_ms = {client.poll_ms:g} in [plc] is over half of expose_within_ms = {self.expose_within_ms:g}: "
                "parts would be seen too late to be inspected"
            )
        return self

    @model_validator(mode="after")
    def _numbered(self) -> "Station":
        numbers = [recipe.number for recipe in self.all_recipes]
        if twice := {number for number in numbers if numbers.count(number) > 1}:
            raise ValueError(
                f"recipe number {min(twice)} is there twice: give each of [recipe] and [[recipes]] its own"
            )
        return self

    @model_validator(mode="after")
    def _locked(self) -> "Station":
        for topic in Bus.model_fields:
            if self.curve is None and getattr(self.bus, topic).startswith("tcp://"):
                raise ValueError(
                    f"bus.{topic} is tcp://, which needs keys: set curve.private_key and curve.clients, make the keys "
                    "with inspector bus key, or take ipc://"
                )
        return self

    @property
    def all_recipes(self) -> tuple[Recipe, ...]:
        """Every recipe that may be asked for, the file's first one first."""
        return self.recipe, *self.recipes


def recipe_of(station: Station, number: int) -> Recipe:
    """The recipe with this number.

    Raises:
        StationError: there is none.
    """
    for recipe in station.all_recipes:
        if recipe.number == number:
            return recipe
    known = ", ".join(f"{recipe.number} ({recipe.name})" for recipe in station.all_recipes)
    raise StationError(
        f"station {station.name} has no recipe {number}: it has {known}; add [[recipes]] to its file and restart it"
    )


def plc_of(station: Station) -> Plc:
    """The station's PLC.

    Raises:
        StationError: it serves none.
    """
    if station.plc is None:
        raise StationError(f"station {station.name} serves no PLC: add [plc] to its file, as docs/integration.md says")
    return station.plc


def curve_of(station: Station) -> Curve:
    """Who may reach the station's tcp:// endpoints.

    Raises:
        StationError: that is not said.
    """
    if station.curve is None:
        raise StationError(f"station {station.name} has no [curve]: add it to its file, as docs/wire.md says")
    return station.curve


def opcua_of(station: Station) -> OpcUaSettings:
    """The station's OPC UA settings.

    Raises:
        StationError: it does not serve OPC UA.
    """
    settings = plc_of(station).opcua
    if settings is None:
        raise StationError(f"station {station.name} does not serve OPC UA: set plc.protocol and add [plc.opcua]")
    return settings


def mqtt_of(station: Station) -> MqttSettings:
    """The station's broker.

    Raises:
        StationError: it reports to none.
    """
    if station.mqtt is None:
        raise StationError(f"station {station.name} reports to no broker: add [mqtt] to its file, as docs/mqtt.md says")
    return station.mqtt


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
