"""Tries the broker as the reporter does, under another client id, and shows what it sees."""

import time
from collections.abc import Iterator

import msgspec
from rich.table import Table

from inspector.mqtt import MqttError
from inspector.mqtt.connection import Connection, load_access
from inspector.mqtt.plain import STATUS
from inspector.mqtt.reporter import client_id_of
from inspector.mqtt.sparkplug import is_online, state_topic
from inspector.mqtt.words import Acknowledged, Event, Heard, Message, StationState
from inspector.station import Station, mqtt_of

ACKNOWLEDGED_S = 5.0
RETAINED_S = 0.5  # for what the broker has kept


def check_broker(station: Station) -> Table:
    """Connect, subscribe, publish, and say what came back.

    Raises:
        MqttError: the broker is away, or refuses something; the text says what to do.
        StationError: the station has no broker.
    """
    settings = mqtt_of(station)
    access = load_access(settings)
    root = f"{settings.topic}/{station.name}"
    host = settings.sparkplug.primary_host if settings.sparkplug else None
    hears = {f"{root}/{STATUS}": "status"} | ({state_topic(host): "primary host"} if host else {})
    client_id = f"{client_id_of(station)}-check"
    connection = Connection(access, client_id, None, tuple(hears))
    try:
        kept = _tried(connection, Message(f"{root}/check", b"", qos=1))
    finally:
        connection.close()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("broker", f"{access}, lets {client_id} in")
    table.add_row("its limits", connection.limits or "none that it names")
    table.add_row("publish", f"{root}/check is acknowledged")
    table.add_row("status", _status(kept.get(f"{root}/{STATUS}")))
    if host:
        table.add_row("primary host", _host(kept.get(state_topic(host)), host))
    return table


def _tried(connection: Connection, message: Message) -> dict[str, bytes]:
    """What the broker has kept, by topic, once it has acknowledged the message."""
    connection.publish(message)
    kept: dict[str, bytes] = {}
    acknowledged = False
    for event in _events(connection, ACKNOWLEDGED_S):
        if isinstance(event, Heard):
            kept[event.message.topic] = event.message.payload
        if isinstance(event, Acknowledged):
            acknowledged = True
            break
    if not acknowledged:
        raise MqttError(f"the broker does not acknowledge {message.topic} in {ACKNOWLEDGED_S:.0f} s: see its log")
    for event in _events(connection, RETAINED_S):
        if isinstance(event, Heard):
            kept[event.message.topic] = event.message.payload
    return kept


def _events(connection: Connection, seconds: float) -> Iterator[Event]:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield from connection.serve(0.05)


def _status(payload: bytes | None) -> str:
    if payload is None:
        return "none kept: inspector mqtt has not run yet"
    try:
        state = msgspec.json.decode(payload, type=StationState)
    except msgspec.MsgspecError as error:
        return f"not that of a station: does something else publish there? ({error})"
    return f"{state.state}, {state.parts} parts" + (f", {state.alarm}" if state.alarm else "")


def _host(payload: bytes | None, host: str) -> str:
    if payload is None:
        return f"{host} has never said anything: there is no birth before it does"
    try:
        online, _ = is_online(payload)
    except MqttError as error:
        return str(error)
    return f"{host} is {'online' if online else 'offline: there is no birth before it is back'}"
