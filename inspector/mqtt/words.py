"""What the MQTT side of a station says and hears, as data. Knows no socket and no library."""

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from inspector.decisions import Decision
from inspector.messages import State, Status


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message, to send or heard."""

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 0
    retain: bool = False
    about: tuple[tuple[str, str], ...] = ()  # MQTT 5 user properties
    content_type: str = ""
    expiry_s: int | None = None
    decision: int | None = None  # the journal's id of what it carries; comes back with the acknowledgement


@dataclass(frozen=True, slots=True)
class Opened:
    """The broker has let the station in and granted its subscriptions."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; another one is tried."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has a message of QoS 1."""

    message: Message


@dataclass(frozen=True, slots=True)
class Heard:
    """Somebody published to a topic that was subscribed to."""

    message: Message


@dataclass(frozen=True, slots=True)
class Leave:
    """Close this connection, with its last will, and try another."""


Event = Opened | Closed | Acknowledged | Heard
Action = Message | Leave


class StationState(msgspec.Struct, frozen=True, kw_only=True):
    """The station as a plant sees it: the payload of the retained status."""

    v: int = 1
    station: str
    state: State | Literal["silent", "offline"]  # silent: `inspector run` is not heard; offline: neither are we
    reason: str = ""
    alarm: str = ""
    boot: str = ""
    recipe: str = ""
    bundle: str = ""
    parts: int = 0  # of this boot, as the three below
    accepted: int = 0
    rejected: int = 0
    faults: int = 0


def state_of(status: Status) -> StationState:
    """A station that is heard."""
    return StationState(
        station=status.station, state=status.state, reason=status.reason, alarm=status.alarm, boot=status.boot,
        recipe=status.recipe, bundle=status.bundle, parts=status.parts, accepted=status.accepted,
        rejected=status.rejected, faults=status.faults,
    )  # fmt: skip


class Speaker(Protocol):
    """One way to say it all; pure: what is to be done is returned."""

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics to hear."""

    def will(self) -> Message:
        """What the broker is to say when the next connection ends; once for each connection, before it is tried."""

    def hear(self, event: Event) -> list[Action]:
        """Answer the broker."""

    def decide(self, decision: Decision) -> list[Action]:
        """Say a decision, in the journal's order."""

    def tell(self, state: StationState) -> list[Action]:
        """Say a state that has changed."""
