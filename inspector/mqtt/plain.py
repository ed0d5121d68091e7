"""Plain MQTT 5: each decision as JSON, at least once, and a retained status. Pure; knows no socket.

A decision counts as reported when the broker has acknowledged it and all before it: until then it is kept here, and
said again on the next connection.
"""

import msgspec

from inspector.decisions import Decision
from inspector.mqtt.words import Acknowledged, Action, Event, Message, Opened, StationState

JSON = "application/json"
STATUS = "status"
DECISION = "decision"

_encode = msgspec.json.Encoder().encode


class PlainSpeaker:
    """Says a station's decisions on `TOPIC/STATION/decision` and its state on `TOPIC/STATION/status`."""

    subscriptions: tuple[str, ...] = ()

    def __init__(self, topic: str, station: str, expiry_s: int | None, reported: int) -> None:
        """`reported` is the last decision that the broker has, `NEWEST` when that is not known yet."""
        self._topic = f"{topic}/{station}"
        self._expiry_s = expiry_s
        self._state = StationState(station=station, state="silent")
        self._offline = StationState(station=station, state="offline")
        self._is_open = False
        self._pending: dict[int, Message] = {}  # by id, in order
        self._last = reported

    @property
    def reported(self) -> int:
        """The broker has all decisions up to this one, and has said so."""
        return next(iter(self._pending)) - 1 if self._pending else self._last

    def restart(self, reported: int) -> int:
        """Go on after another decision, the journal being another one; gives how many are given up."""
        given_up = len(self._pending)
        self._pending, self._last = {}, reported
        return given_up

    def will(self) -> Message:
        """The status that the broker keeps when nobody is there to report."""
        return self._status(self._offline)

    def hear(self, event: Event) -> list[Action]:
        """Say everything that the broker may not have when it is back."""
        self._is_open = isinstance(event, Opened) or (self._is_open and isinstance(event, Acknowledged))
        if isinstance(event, Acknowledged) and event.message.decision is not None:
            self._pending.pop(event.message.decision, None)
        if isinstance(event, Opened):
            return [self._status(self._state), *self._pending.values()]
        return []

    def decide(self, decision: Decision) -> list[Action]:
        """Say a decision now if the broker is there, and in any case keep it."""
        message = self._decision(decision)
        self._pending[decision.id] = message
        self._last = decision.id
        return [message] if self._is_open else []

    def tell(self, state: StationState) -> list[Action]:
        """Say the state now if the broker is there; a new connection says it anyway."""
        self._state = state
        return [self._status(state)] if self._is_open else []

    def _status(self, state: StationState) -> Message:
        return Message(f"{self._topic}/{STATUS}", _encode(state), qos=1, retain=True, content_type=JSON)

    def _decision(self, decision: Decision) -> Message:
        result = decision.result
        about = (("id", str(decision.id)), ("verdict", result.verdict.value), ("cause", result.cause.value))
        return Message(
            f"{self._topic}/{DECISION}", _encode(decision), qos=1, about=about, content_type=JSON,
            expiry_s=self._expiry_s, decision=decision.id,
        )  # fmt: skip
