"""The station as a Sparkplug B edge node: births, data, death, rebirth, primary host. Pure; knows no socket.

By version 3.0 of the Sparkplug specification. Data has QoS 0 there: what is sent into a connection that is breaking is
lost, and a host sees it by `Decision/Id`. What was decided while there was no session is sent afterwards, as
historical, as far as `BACKLOG` goes.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

from inspector.decisions import Decision
from inspector.mqtt import MqttError
from inspector.mqtt.payload import DataType, Metric, Payload, Value, decode, encode
from inspector.mqtt.words import Action, Closed, Event, Heard, Leave, Message, Opened, StationState

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
BD_SEQ = "bdSeq"
NUMBERS = 256  # seq and bdSeq count to 255 and then from 0 again
BACKLOG = 1000  # decisions that wait for a session

log = logging.getLogger(__name__)


class SparkplugSpeaker:
    """An edge node without devices; the metrics are the station's state and its last decision."""

    def __init__(
        self,
        group: str,
        node: str,
        primary_host: str | None,
        state: StationState,
        next_bd_seq: Callable[[], int],
        wall: Callable[[], float],
    ) -> None:
        """`next_bd_seq` numbers connections, over restarts too; `wall` gives seconds in UTC."""
        self._group, self._node = group, node
        self._state_topic = state_topic(primary_host) if primary_host else ""
        self._next_bd_seq = next_bd_seq
        self._wall = wall
        self._state, self._state_ms = state, self._now_ms()
        self._last: Decision | None = None
        self._backlog: deque[Decision] = deque(maxlen=BACKLOG)
        self._bd_seq = self._seq = 0
        self._is_spent = True  # the bdSeq: its session came to be
        self._is_open = self._is_born = False
        self._host_online, self._host_ms = not primary_host, 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Commands, and the primary host's state where one is waited for."""
        return tuple(filter(None, (self._topic("NCMD"), self._state_topic)))

    def will(self) -> Message:
        """NDEATH, with the bdSeq of the session that is to come: one more than that of the last one that came."""
        if self._is_spent:
            self._bd_seq, self._is_spent = self._next_bd_seq(), False
        now_ms = self._now_ms()
        return Message(self._topic("NDEATH"), encode(Payload(now_ms, (self._bd_seq_metric(now_ms),))), qos=1)

    def hear(self, event: Event) -> list[Action]:
        """Be born once there is a session and a host; go when the host goes; be born again when asked to."""
        if isinstance(event, Opened):
            self._is_open = self._is_spent = True
            return self._begin()
        if isinstance(event, Closed):
            self._is_open = self._is_born = False
            self._host_online, self._host_ms = not self._state_topic, 0
        if isinstance(event, Heard):
            heard = event.message
            return self._host_said(heard) if heard.topic == self._state_topic else self._commanded(heard)
        return []

    def decide(self, decision: Decision) -> list[Action]:
        """NDATA, or kept for the next session."""
        self._last = decision
        if not self._is_born:
            self._backlog.append(decision)
            return []
        return [self._data(_decision_metrics(decision))]

    def tell(self, state: StationState) -> list[Action]:
        """NDATA with what has changed."""
        told = {metric.name: metric.value for metric in _state_metrics(self._state, 0)}
        self._state, self._state_ms = state, self._now_ms()
        changed = [each for each in _state_metrics(state, self._state_ms) if told[each.name] != each.value]
        return [self._data(changed)] if self._is_born and changed else []

    def _begin(self) -> list[Action]:
        if not self._is_open or not self._host_online or self._is_born:
            return []
        self._is_born = True
        waited, self._backlog = self._backlog, deque(maxlen=BACKLOG)
        return [self._birth(), *(self._data(_decision_metrics(each, historical=True)) for each in waited)]

    def _host_said(self, message: Message) -> list[Action]:
        """STATE of the primary host: an older one than was heard is of no account."""
        try:
            online, timestamp_ms = is_online(message.payload)
        except MqttError as error:
            log.warning("%s: %s", message.topic, error)
            return []
        if timestamp_ms < self._host_ms:
            return []
        self._host_online, self._host_ms = online, timestamp_ms
        if online:
            return self._begin()
        return [Leave()] if self._is_born else []

    def _commanded(self, message: Message) -> list[Action]:
        try:
            metrics = decode(message.payload).metrics
        except MqttError as error:
            log.warning("%s: %s", message.topic, error)
            return []
        wanted = any(metric.name == REBIRTH and metric.value is True for metric in metrics)
        return [self._birth()] if wanted and self._is_born else []

    def _birth(self) -> Message:
        """NBIRTH: every metric there is, with its present value; counts from 0."""
        now_ms = self._now_ms()
        metrics = [
            self._bd_seq_metric(now_ms),
            Metric(REBIRTH, DataType.BOOLEAN, False, now_ms),
            *_state_metrics(self._state, self._state_ms),
            *(_decision_metrics(self._last) if self._last else _no_decision_metrics(now_ms)),
        ]
        self._seq = 0
        return self._message("NBIRTH", metrics)

    def _data(self, metrics: Iterable[Metric]) -> Message:
        self._seq = (self._seq + 1) % NUMBERS
        return self._message("NDATA", metrics)

    def _message(self, kind: str, metrics: Iterable[Metric]) -> Message:
        return Message(self._topic(kind), encode(Payload(self._now_ms(), tuple(metrics), self._seq)))

    def _topic(self, kind: str) -> str:
        return f"{NAMESPACE}/{self._group}/{kind}/{self._node}"

    def _bd_seq_metric(self, now_ms: int) -> Metric:
        return Metric(BD_SEQ, DataType.INT64, self._bd_seq, now_ms)

    def _now_ms(self) -> int:
        return round(self._wall() * 1000)


def state_topic(host: str) -> str:
    """Where a host application says whether it is there."""
    return f"{NAMESPACE}/STATE/{host}"


def is_online(payload: bytes) -> tuple[bool, int]:
    """What a host application said: whether it is there, and since when (UTC, ms).

    Raises:
        MqttError: it is no STATE of version 3.
    """
    try:
        said = json.loads(payload)
        return bool(said["online"]), int(said["timestamp"])
    except (ValueError, KeyError, TypeError) as error:
        raise MqttError(f"the primary host's STATE is not that of Sparkplug 3 ({payload[:40]!r})") from error


_STATE_METRICS: dict[str, tuple[DataType, str]] = {
    "Station/State": (DataType.STRING, "state"),
    "Station/Reason": (DataType.STRING, "reason"),
    "Station/Alarm": (DataType.STRING, "alarm"),
    "Station/Boot": (DataType.STRING, "boot"),
    "Station/Recipe": (DataType.STRING, "recipe"),
    "Station/Bundle": (DataType.STRING, "bundle"),
    "Counters/Parts": (DataType.INT64, "parts"),
    "Counters/Accepted": (DataType.INT64, "accepted"),
    "Counters/Rejected": (DataType.INT64, "rejected"),
    "Counters/Faults": (DataType.INT64, "faults"),
}
_DECISION_METRICS: dict[str, tuple[DataType, str]] = {
    "Decision/PartId": (DataType.STRING, "part_id"),
    "Decision/Verdict": (DataType.STRING, "verdict"),
    "Decision/Score": (DataType.DOUBLE, "score"),
    "Decision/Threshold": (DataType.DOUBLE, "threshold"),
    "Decision/Cause": (DataType.STRING, "cause"),
    "Decision/Reason": (DataType.STRING, "reason"),
    "Decision/Recipe": (DataType.STRING, "recipe"),
}
_DECISION_ID = "Decision/Id"


def _state_metrics(state: StationState, at_ms: int) -> list[Metric]:
    return [Metric(name, kind, getattr(state, key), at_ms) for name, (kind, key) in _STATE_METRICS.items()]


def _decision_metrics(decision: Decision, *, historical: bool = False) -> list[Metric]:
    at_ms = round(datetime.fromisoformat(decision.result.captured_utc).timestamp() * 1000)
    values: dict[str, tuple[DataType, Value | None]] = {_DECISION_ID: (DataType.INT64, decision.id)}
    values |= {name: (kind, getattr(decision.result, key)) for name, (kind, key) in _DECISION_METRICS.items()}
    return [Metric(name, kind, value, at_ms, historical) for name, (kind, value) in values.items()]


def _no_decision_metrics(at_ms: int) -> list[Metric]:
    kinds = {_DECISION_ID: DataType.INT64} | {name: kind for name, (kind, _) in _DECISION_METRICS.items()}
    return [Metric(name, kind, None, at_ms) for name, kind in kinds.items()]
