"""station.toml becomes a frozen Station, or an error that names the file and the key. Knows no device."""

import ipaddress
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from inspector.mqtt.settings import MqttSettings, SparkplugSettings
from inspector.plc.client_settings import ClientSettings, EthernetIpSettings, ModbusClientSettings, S7Settings
from inspector.plc.opcua_settings import OpcUaSettings

SIMULATED_PRODUCER = Path("simulator")  # stands for the GenTL producer that comes with Inspector
EngineName = Literal["onnxruntime-cpu", "onnxruntime-cuda"]


class StationError(Exception):
    """The station file is wrong; the text names the file, every key at fault, and what to do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FolderCamera(_Frozen):
    """Replays a folder of images."""

    kind: Literal["folder"] = Field(title="Kind", description="replays images from a folder")
    folder: Path = Field(title="Folder", description="of png, jpg, bmp or tif images, replayed sorted by name")
    rate_hz: float | None = Field(None, gt=0, title="Rate", description="parts a second; absent: as fast as it goes")
    loop: bool = Field(False, title="Loop", description="start again after the last image instead of ending")
    trigger: Literal["free-run", "software"] = Field(
        "free-run", title="Trigger", description="software: an image for each part that the PLC announces"
    )

    @field_validator("folder")
    @classmethod
    def _beside_the_file(cls, folder: Path, info: ValidationInfo) -> Path:
        return _beside(folder, info)


class SimulatedCamera(_Frozen):
    """The rendered demo line, for a station without a camera."""

    kind: Literal["simulator"] = Field(title="Kind", description="renders the demo product")
    rate_hz: float = Field(2.0, gt=0, title="Rate", description="parts a second")
    fault_rate: float = Field(0.2, ge=0, le=1, title="Fault rate", description="share of anomalous parts")
    seed: int = Field(0, ge=0, title="Seed", description="the same seed renders the same parts")
    parts: int | None = Field(None, gt=0, title="Parts", description="end after so many parts; absent: never")


class GenicamCamera(_Frozen):
    """An industrial camera behind its maker's GenTL producer, or the simulated one."""

    kind: Literal["genicam"]
    producer: Path | None = Field(
        None,
        title="Producer",
        description=".cti file of the camera's maker, or simulator; absent: GENICAM_GENTL64_PATH",
    )
    serial: str | None = Field(None, title="Serial number", description="of the camera; absent: the only one there is")
    user_id: str | None = Field(None, title="User id", description="the name that somebody gave to the camera")
    ip: str | None = Field(None, title="IP address", description="of a network camera")
    trigger: Literal["hardware", "software", "free-run"] = Field(
        "hardware", title="Trigger", description="what exposes a part: an input line, the station, the camera itself"
    )
    trigger_line: str = Field("Line0", title="Trigger line", description="the camera's input, its TriggerSource")
    rate_hz: float | None = Field(
        None,
        gt=0,
        title="Rate",
        description="parts a second, triggered or in free run; absent: as they are asked for",
    )
    timeout_ms: float = Field(
        1000, gt=0, title="Time-out", description="a frame that comes later after its trigger is lost"
    )
    region: tuple[int, int, int, int] | None = Field(
        None, title="Region", description="x, y, width, height in pixels of the sensor; absent: as the camera has it"
    )
    buffers: int = Field(8, ge=2, le=256, title="Buffers", description="frames that wait while the station is busy")
    features: dict[str, bool | int | float | str] = Field(
        default_factory=dict, title="Features", description="the camera's settings by their SFNC names"
    )

    @field_validator("producer")
    @classmethod
    def _beside_the_file(cls, producer: Path | None, info: ValidationInfo) -> Path | None:
        return producer if producer in {None, SIMULATED_PRODUCER} else _beside(producer, info)


class VideoCamera(_Frozen):
    """A video file, or an ordinary USB camera: to try things at a desk."""

    kind: Literal["video"]
    file: Path | None = Field(None, title="File", description="video to replay")
    device: int | None = Field(None, ge=0, title="Device", description="number of the USB camera, 0 is the first")
    rate_hz: float | None = Field(None, gt=0, title="Rate", description="frames a second; absent: the source's own")
    loop: bool = Field(False, title="Loop", description="start the file again after its last frame")

    @field_validator("file")
    @classmethod
    def _beside_the_file(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        return None if file is None else _beside(file, info)

    @model_validator(mode="after")
    def _one_source(self) -> "VideoCamera":
        if (self.file is None) == (self.device is None):
            raise ValueError("a video camera needs either file or device")
        return self


CameraConfig = GenicamCamera | VideoCamera | FolderCamera | SimulatedCamera


class Recipe(_Frozen):
    """What is inspected, and how strictly."""

    name: str = Field(min_length=1, title="Name", description="of the product, as results carry it")
    bundle: Path = Field(title="Bundle", description="folder of the trained model")
    number: int = Field(1, ge=1, le=65535, title="Number", description="of the recipe, as the PLC reads it")
    threshold: float | None = Field(
        None, title="Threshold", description="reject when score > threshold; absent: the bundle's own"
    )

    @field_validator("bundle")
    @classmethod
    def _beside_the_file(cls, bundle: Path, info: ValidationInfo) -> Path:
        return _beside(bundle, info)


class Bus(_Frozen):
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
            return f"ipc://{_beside(Path(address), info)}"
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


class Curve(_Frozen):
    """Who may reach the endpoints with tcp://."""

    private_key: Path = Field(
        title="Private key", description="NAME.key_secret, made by inspector bus key; its owner's alone"
    )
    clients: Path = Field(title="Clients", description="folder with the public keys of those that may connect")

    @field_validator("private_key", "clients")
    @classmethod
    def _beside_the_file(cls, path: Path, info: ValidationInfo) -> Path:
        return _beside(path, info)


_PORTS = {"modbus": 502, "opcua": 4840, "modbus-client": 502, "s7": 102, "ethernet-ip": 44818}

_SAYS = {
    "opcua": "who may connect",
    "modbus-client": "where the PLC's registers are",
    "s7": "where the PLC's words are",
    "ethernet-ip": "which tags the PLC has",
}


class Plc(_Frozen):
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


class Station(_Frozen):
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
    journal: Path = Field(title="Journal", description="SQLite file of every decision")
    plc: Plc | None = Field(None, title="PLC", description="absent: no PLC is served")
    mqtt: MqttSettings | None = Field(None, title="MQTT", description="absent: nothing is reported to a broker")
    curve: Curve | None = Field(
        None, title="CURVE", description="who may reach tcp:// endpoints; absent: there are none"
    )

    @field_validator("journal")
    @classmethod
    def _beside_the_file(cls, journal: Path, info: ValidationInfo) -> Path:
        return _beside(journal, info)

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


def load_station(path: Path) -> Station:
    """Read station.toml; relative paths in it are relative to its folder.

    Without a `[bus]` the endpoints are in `runs/NAME/` beside the file, or in `/run/inspector/NAME/` for a file under
    `/etc`, where nothing may be written.

    Raises:
        StationError: the file cannot be read, or keys are wrong: all of them are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise StationError(f"{path}: cannot be read ({error.strerror}): name the file with --station") from error
    except ValueError as error:
        raise StationError(f"{path}: is not valid TOML: {error}") from error
    folder = path.absolute().parent
    bus = raw.get("bus", {})
    if isinstance(bus, dict):
        raw["bus"] = _default_bus(folder, str(raw.get("name"))) | bus
    raw.setdefault("journal", str(_default_journal(folder, str(raw.get("name")))))
    try:
        return Station.model_validate(raw, context={"folder": folder})
    except ValidationError as error:
        lines = [_explain(path, text, raw, details) for details in error.errors()]
        raise StationError("\n".join(lines)) from error


def _beside(path: Path, info: ValidationInfo) -> Path:
    folder = info.context["folder"] if info.context else Path.cwd()
    return Path(folder, path.expanduser())


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _default_bus(folder: Path, name: str) -> dict[str, str]:
    run = Path("/run/inspector") if folder.is_relative_to("/etc") else folder / "runs"
    return {topic: f"ipc://{run / name / topic}" for topic in Bus.model_fields}


def _default_journal(folder: Path, name: str) -> Path:
    kept = Path("/var/lib/inspector") if folder.is_relative_to("/etc") else folder / "runs"
    return kept / name / "journal.sqlite"


def _explain(path: Path, text: str, raw: dict[str, object], details: ErrorDetails) -> str:
    keys = list(_keys(details["loc"], raw))
    line = _line_of(text, keys)
    where = f" (line {line})" if line else ""
    return f"{path}: {'.'.join(keys) or 'station'}: {_problem(details, keys)}{where}"


def _keys(loc: tuple[int | str, ...], raw: dict[str, object]) -> Iterator[str]:
    """Pydantic's location without the name of the union's member, which is no key of the file."""
    camera = raw.get("camera")
    member = camera.get("kind") if isinstance(camera, dict) else None
    for index, part in enumerate(loc):
        if not (index == 1 and loc[0] == "camera" and part == member):
            yield str(part)


def _problem(details: ErrorDetails, keys: list[str]) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return f"is not a known key{_suggestion(keys)}"
    if kind == "missing":
        return "is missing"
    if kind == "union_tag_not_found":
        return 'kind is missing: set kind = "genicam", "video", "folder" or "simulator"'
    if kind == "string_pattern_mismatch":
        return f"may hold only letters, digits, - and _ (got {details['input']!r})"
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    given = details["input"]
    return message if isinstance(given, dict) else f"{message} (got {given!r})"


def _suggestion(keys: list[str]) -> str:
    models: dict[str, tuple[type[BaseModel], ...]] = {
        "": (Station,),
        "camera": (GenicamCamera, VideoCamera, SimulatedCamera, FolderCamera),
        "recipe": (Recipe,),
        "recipes": (Recipe,),
        "bus": (Bus,),
        "plc": (Plc,),
        "plc.opcua": (OpcUaSettings,),
        "mqtt": (MqttSettings,),
        "mqtt.sparkplug": (SparkplugSettings,),
        "curve": (Curve,),
        "plc.modbus_client": (ModbusClientSettings,),
        "plc.s7": (S7Settings,),
        "plc.ethernet_ip": (EthernetIpSettings,),
    }
    table = ".".join(key for key in keys[:-1] if not key.isdigit())
    known = [field for model in models[table] for field in model.model_fields]
    close = get_close_matches(keys[-1], known, n=1)
    return f": did you mean {close[0]}?" if close else f": remove it (known are {', '.join(dict.fromkeys(known))})"


def _line_of(text: str, keys: list[str]) -> int | None:
    """The line that sets the key, counted from 1; None where it is not written plainly or not at all."""
    table: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if plain.startswith("["):
            name = plain.split("]")[0].strip("[ ")
            table = name.split(".")
            if plain.startswith("[["):  # one of several: they are counted from 0
                seen[name] = seen.get(name, -1) + 1
                table.append(str(seen[name]))
            found = table
        else:
            found = [*table, plain.partition("=")[0].strip()]
        if keys and found == keys:
            return number
    return None
