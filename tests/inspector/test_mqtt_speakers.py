"""What is said to a broker and when: pure, without one."""

import itertools
import json

import pytest

pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install -e '.[mqtt]'")

import msgspec

from inspector.decisions import NEWEST, Decision
from inspector.inspection import Verdict
from inspector.mqtt import MqttError
from inspector.mqtt.payload import DataType, Metric, Payload, Value, decode, encode
from inspector.mqtt.plain import PlainSpeaker
from inspector.mqtt.sparkplug import BACKLOG, SparkplugSpeaker
from inspector.mqtt.words import Acknowledged, Action, Closed, Heard, Leave, Message, Opened, StationState

from .test_journal import result

READY = StationState(station="line1", state="ready", recipe="tray", parts=5, accepted=4, rejected=1)
COMMAND, HOST = "spBv1.0/plant/NCMD/line1", "spBv1.0/STATE/scada"


def decision(number: int, verdict: Verdict = Verdict.ACCEPT) -> Decision:
    return Decision(id=number, result=result(number, verdict))


def plain(reported: int = 0, expiry_s: int | None = None) -> PlainSpeaker:
    return PlainSpeaker("inspector", "line1", expiry_s, reported)


def sparkplug(host: str | None = None, start: int = 0) -> SparkplugSpeaker:
    numbers = itertools.count(start)
    return SparkplugSpeaker("plant", "line1", host, READY, lambda: next(numbers) % 256, lambda: 1_700_000_000.0)


def opened(**more: str) -> SparkplugSpeaker:
    speaker = sparkplug(**more)
    speaker.will()
    speaker.hear(Opened())
    return speaker


def ids(actions: list[Action]) -> list[int]:
    return [action.decision for action in actions if isinstance(action, Message) and action.decision is not None]


def read(action: Action) -> tuple[str, Payload]:
    assert isinstance(action, Message)
    return action.topic.split("/")[2], decode(action.payload)


def values(payload: Payload) -> dict[str, Value | None]:
    return {metric.name: metric.value for metric in payload.metrics}


def rebirth(value: bool = True, name: str = "Node Control/Rebirth") -> Heard:
    metric = Metric(name, DataType.BOOLEAN, value, 1)
    return Heard(Message(COMMAND, encode(Payload(1, (metric,)))))


def state(online: bool, timestamp: int) -> Heard:
    return Heard(Message(HOST, json.dumps({"online": online, "timestamp": timestamp}).encode()))


# Plain MQTT


def test_a_decision_is_the_wires_as_json_and_can_be_sorted_by_its_properties() -> None:
    speaker = plain(expiry_s=60)
    speaker.hear(Opened())
    (message,) = speaker.decide(decision(7, Verdict.REJECT))
    assert isinstance(message, Message)
    assert (message.topic, message.qos, message.retain) == ("inspector/line1/decision", 1, False)
    assert msgspec.json.decode(message.payload, type=Decision) == decision(7, Verdict.REJECT)
    assert message.about == (("id", "7"), ("verdict", "reject"), ("cause", "none"))
    assert (message.content_type, message.expiry_s) == ("application/json", 60)


def test_a_decision_is_reported_only_when_the_broker_has_it_and_all_before_it() -> None:
    speaker = plain(reported=4)
    speaker.hear(Opened())
    messages = [action for number in (5, 6, 7) for action in speaker.decide(decision(number))]
    assert speaker.reported == 4
    assert isinstance(messages[1], Message)
    speaker.hear(Acknowledged(messages[1]))
    assert speaker.reported == 4
    assert isinstance(messages[0], Message)
    speaker.hear(Acknowledged(messages[0]))
    assert speaker.reported == 6
    assert isinstance(messages[2], Message)
    speaker.hear(Acknowledged(messages[2]))
    assert speaker.reported == 7


def test_what_was_not_acknowledged_is_said_again_in_order_on_the_next_connection() -> None:
    speaker = plain()
    assert speaker.decide(decision(1)) == []  # no broker yet
    assert ids(speaker.hear(Opened())) == [1]
    messages = [*speaker.decide(decision(2)), *speaker.decide(decision(3))]
    assert isinstance(messages[0], Message)
    speaker.hear(Acknowledged(messages[0]))
    speaker.hear(Closed())
    assert speaker.decide(decision(4)) == []
    assert ids(speaker.hear(Opened())) == [1, 3, 4]
    assert speaker.reported == 0


def test_the_status_is_kept_by_the_broker_and_its_will_says_offline() -> None:
    speaker = plain()
    assert speaker.tell(READY) == []
    (status,) = speaker.hear(Opened())
    will = speaker.will()
    assert isinstance(status, Message)
    assert (status.topic, status.qos, status.retain) == (will.topic, will.qos, will.retain)
    assert (status.topic, status.qos, status.retain) == ("inspector/line1/status", 1, True)
    assert msgspec.json.decode(status.payload, type=StationState) == READY
    assert msgspec.json.decode(will.payload, type=StationState) == StationState(station="line1", state="offline")
    assert len(speaker.tell(READY)) == 1


def test_the_acknowledgement_of_a_status_reports_no_decision() -> None:
    speaker = plain()
    (status,) = speaker.hear(Opened())
    speaker.decide(decision(1))
    assert isinstance(status, Message)
    speaker.hear(Acknowledged(status))
    assert speaker.reported == 0


def test_a_station_that_was_never_reported_begins_where_it_is_told() -> None:
    speaker = plain(reported=NEWEST)
    assert speaker.reported == NEWEST
    speaker.restart(41)
    assert speaker.reported == 41


# Sparkplug B


def test_a_payload_comes_back_as_it_was_and_zero_false_and_nothing_are_told_apart() -> None:
    metrics = (
        Metric("a", DataType.INT64, 0, 7),
        Metric("b", DataType.BOOLEAN, False, 7, historical=True),
        Metric("c", DataType.DOUBLE, None, 8),
        Metric("d", DataType.DOUBLE, 0.1, 9),
        Metric("e", DataType.STRING, "", 2**42),
        Metric("f", DataType.INT64, 2**63 - 1, 1),
    )
    for payload in (Payload(5, metrics, 0), Payload(5, metrics, 255), Payload(5, ())):
        assert decode(encode(payload)) == payload


@pytest.mark.parametrize("damaged", [b"\xff", b"hello"])
def test_bytes_that_are_no_payload_are_an_error(damaged: bytes) -> None:
    with pytest.raises(MqttError, match="no Sparkplug B payload"):
        decode(damaged)


def test_a_birth_has_every_metric_and_the_number_of_its_death() -> None:
    speaker = sparkplug()
    will = speaker.will()
    assert (will.topic, will.qos, will.retain) == ("spBv1.0/plant/NDEATH/line1", 1, False)
    death = decode(will.payload)
    assert (values(death), death.seq) == ({"bdSeq": 0}, None)
    speaker.decide(decision(1))
    birth, *_ = speaker.hear(Opened())
    assert isinstance(birth, Message)
    assert (birth.topic, birth.qos, birth.retain) == ("spBv1.0/plant/NBIRTH/line1", 0, False)
    said = decode(birth.payload)
    assert said.seq == 0
    assert values(said) == {
        "bdSeq": 0,
        "Node Control/Rebirth": False,
        "Station/State": "ready", "Station/Reason": "", "Station/Alarm": "", "Station/Boot": "",
        "Station/Recipe": "tray", "Station/Bundle": "",
        "Counters/Parts": 5, "Counters/Accepted": 4, "Counters/Rejected": 1, "Counters/Faults": 0,
        "Decision/Id": 1, "Decision/PartId": "p1", "Decision/Verdict": "accept", "Decision/Score": 0.5,
        "Decision/Threshold": 1.0, "Decision/Cause": "none", "Decision/Reason": "", "Decision/Recipe": "tray",
    }  # fmt: skip


def test_data_names_only_metrics_of_the_birth_with_the_same_types() -> None:
    speaker = sparkplug()
    speaker.will()
    born = {metric.name: metric.kind for metric in read(speaker.hear(Opened())[0])[1].metrics}
    for action in (*speaker.decide(decision(1)), *speaker.tell(StationState(station="line1", state="silent"))):
        kind, payload = read(action)
        assert kind == "NDATA"
        assert payload.metrics
        assert {metric.name: metric.kind for metric in payload.metrics}.items() <= born.items()


def test_numbers_count_to_255_and_begin_again() -> None:
    speaker = opened()
    seen = [read(speaker.decide(decision(number))[0])[1].seq for number in range(1, 600)]
    assert seen == [number % 256 for number in range(1, 600)]


def test_each_session_has_the_next_number_of_birth_and_death_and_a_failed_try_has_none() -> None:
    speaker = sparkplug(start=255)
    assert values(decode(speaker.will().payload)) == {"bdSeq": 255}
    assert values(decode(speaker.will().payload)) == {"bdSeq": 255}  # the first try did not come through
    assert values(read(speaker.hear(Opened())[0])[1])["bdSeq"] == 255
    speaker.hear(Closed())
    assert values(decode(speaker.will().payload)) == {"bdSeq": 0}


def test_a_rebirth_says_everything_again_under_the_same_number_from_seq_0() -> None:
    speaker = opened()
    speaker.decide(decision(1))
    kind, payload = read(speaker.hear(rebirth())[0])
    assert (kind, payload.seq, values(payload)["bdSeq"]) == ("NBIRTH", 0, 0)
    assert values(payload)["Decision/Id"] == 1
    assert read(speaker.decide(decision(2))[0])[1].seq == 1


@pytest.mark.parametrize(
    "command", [rebirth(value=False), rebirth(name="Node Control/Reboot"), Heard(Message(COMMAND, b"hello"))]
)
def test_nothing_else_that_is_commanded_does_anything(command: Heard) -> None:
    assert opened().hear(command) == []


def test_only_what_changed_is_said_of_the_state() -> None:
    speaker = opened()
    assert speaker.tell(READY) == []
    (action,) = speaker.tell(msgspec.structs.replace(READY, parts=6, faults=1))
    assert values(read(action)[1]) == {"Counters/Parts": 6, "Counters/Faults": 1}


def test_decisions_without_a_session_are_said_after_the_birth_as_historical() -> None:
    speaker = opened()
    speaker.hear(Closed())
    for number in (1, 2):
        assert speaker.decide(decision(number)) == []
    speaker.will()
    birth, *rest = speaker.hear(Opened())
    assert values(read(birth)[1])["Decision/Id"] == 2
    assert not any(metric.historical for metric in read(birth)[1].metrics)
    assert [values(read(action)[1])["Decision/Id"] for action in rest] == [1, 2]
    assert all(metric.historical for action in rest for metric in read(action)[1].metrics)
    assert [read(action)[1].seq for action in rest] == [1, 2]
    (now,) = speaker.decide(decision(3))
    assert not any(metric.historical for metric in read(now)[1].metrics)
    assert speaker.hear(rebirth())[1:] == []  # they are said once


def test_what_waits_for_a_session_does_not_grow_for_ever() -> None:
    speaker = sparkplug()
    for number in range(1, BACKLOG + 11):
        speaker.decide(decision(number))
    speaker.will()
    _, first, *rest = speaker.hear(Opened())
    assert values(read(first)[1])["Decision/Id"] == 11
    assert len(rest) == BACKLOG - 1


def test_there_is_no_birth_before_the_primary_host_is_there() -> None:
    speaker = sparkplug("scada")
    assert speaker.subscriptions == (COMMAND, HOST)
    speaker.will()
    assert speaker.hear(Opened()) == []
    assert speaker.decide(decision(1)) == []
    assert speaker.hear(rebirth()) == []
    assert speaker.hear(state(False, 10)) == []
    assert speaker.hear(Heard(Message(HOST, b"OFFLINE"))) == []  # of Sparkplug 2
    assert [read(action)[0] for action in speaker.hear(state(True, 11))] == ["NBIRTH", "NDATA"]
    assert speaker.hear(state(True, 12)) == []


def test_a_host_that_is_known_before_the_subscription_is_granted_is_heard_too() -> None:
    speaker = sparkplug("scada")
    speaker.will()
    assert speaker.hear(state(True, 10)) == []
    assert read(speaker.hear(Opened())[0])[0] == "NBIRTH"


def test_a_primary_host_that_goes_is_left_but_not_on_an_old_word() -> None:
    speaker = sparkplug("scada")
    speaker.will()
    speaker.hear(Opened())
    speaker.hear(state(True, 10))
    assert speaker.hear(state(False, 9)) == []
    assert speaker.hear(state(False, 10)) == [Leave()]
    speaker.hear(Closed())
    speaker.will()
    assert speaker.hear(Opened()) == []  # the host has to be heard again


def test_after_a_lost_connection_the_host_is_waited_for_again_whatever_its_clock_says() -> None:
    speaker = sparkplug("scada")
    speaker.will()
    speaker.hear(Opened())
    speaker.hear(state(True, 10))
    speaker.hear(Closed())
    speaker.will()
    assert speaker.hear(Opened()) == []
    assert read(speaker.hear(state(True, 3))[0])[0] == "NBIRTH"
