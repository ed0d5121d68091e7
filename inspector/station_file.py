"""station.toml becomes a frozen Station, or an error that names the file and the key. Knows no device."""

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inspector.camera.settings import FolderCamera, GenicamCamera, SimulatedCamera, VideoCamera
from inspector.mqtt.settings import MqttSettings, SparkplugSettings
from inspector.plc.client_settings import EthernetIpSettings, ModbusClientSettings, S7Settings
from inspector.plc.opcua_settings import OpcUaSettings
from inspector.station import Bus, Curve, Plc, Recipe, Station, StationError


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
