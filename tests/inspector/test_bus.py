"""The bus for real: one publisher, subscribers that come, lag and go."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from inspector.bus import VIEW_PERIOD_NS, BusError, Gap, Publisher, Subscriber, gap_before
from inspector.inspection import Decision, Frame, Inspection, Prediction, Timings, Verdict
from inspector.messages import MessageError, Result, View
from inspector.station import Bus

from .test_messages import result
from .tiny import Clock, part

PATIENCE_MS = 5000


def inspected(sequence: int, verdict: Verdict = Verdict.ACCEPT) -> Inspection:
    prediction = Prediction(0.1, np.zeros((8, 8), np.float32), {})
    decision = Decision(verdict, 0.1, 0.5, "because")
    timings = Timings(0.0, 0.0, 0.0, float("nan"))
    return Inspection(Frame(sequence, f"part-{sequence}", part(100), 0), prediction, decision, "r", "b", timings)


@pytest.fixture
def publisher(bus: Bus, clock: Clock) -> Iterator[Publisher]:
    with Publisher(bus, "line1", clock=clock, wall=lambda: 1e9) as opened:
        yield opened


@pytest.fixture
def subscriber(bus: Bus, publisher: Publisher) -> Iterator[Subscriber]:
    with Subscriber(bus) as opened:
        for topic in ("result", "view", "status"):
            assert publisher.listeners(topic, PATIENCE_MS)
        yield opened


def test_every_result_arrives_in_order(publisher: Publisher, subscriber: Subscriber) -> None:
    for sequence in range(50):
        publisher.send_result(publisher.next_result(inspected(sequence), 100))
    received = [subscriber.receive(PATIENCE_MS) for _ in range(50)]
    assert [message.seq for message in received if isinstance(message, Result)] == list(range(1, 51))
    assert {message.boot for message in received if isinstance(message, Result)} == {publisher._origin.boot}


def test_the_newest_view_is_the_last_one_received(publisher: Publisher, subscriber: Subscriber) -> None:
    publisher.send_view(inspected(0, Verdict.REJECT))
    publisher.send_view(inspected(1, Verdict.REJECT))
    received: list[int] = []
    while received[-1:] != [2]:
        view = subscriber.receive(PATIENCE_MS)
        assert isinstance(view, View)
        received.append(view.header.seq)
    assert subscriber.receive(1) is None


def test_views_of_accepted_parts_are_throttled_and_the_others_are_not(
    publisher: Publisher, subscriber: Subscriber, clock: Clock
) -> None:
    assert subscriber
    for sequence in range(10):
        publisher.send_view(inspected(sequence))
    assert publisher._seq["view"] == 1
    publisher.send_view(inspected(10, Verdict.REJECT))
    publisher.send_view(inspected(11, Verdict.FAULT))
    assert publisher._seq["view"] == 3
    clock.now_ns += VIEW_PERIOD_NS
    publisher.send_view(inspected(12))
    assert publisher._seq["view"] == 4


def test_nothing_is_encoded_when_nobody_looks(publisher: Publisher) -> None:
    publisher.send_view(inspected(0, Verdict.REJECT))
    assert publisher._seq["view"] == 0


def test_a_subscriber_that_left_is_noticed(bus: Bus, publisher: Publisher) -> None:
    with Subscriber(bus, ("view",)):
        assert publisher.listeners("view", PATIENCE_MS) == 1
    assert publisher._sockets["view"].poll(PATIENCE_MS)
    assert publisher.listeners("view") == 0


def test_a_dead_subscriber_never_delays_the_publisher(publisher: Publisher, subscriber: Subscriber) -> None:
    for sequence in range(5000):  # far above the high-water marks of both sides
        publisher.send_result(publisher.next_result(inspected(sequence), 100))
    first = subscriber.receive(PATIENCE_MS)
    assert isinstance(first, Result)
    assert first.seq == 1


def test_a_lost_result_is_reported_as_a_gap(publisher: Publisher, subscriber: Subscriber) -> None:
    publisher.send_result(publisher.next_result(inspected(0), 100))
    publisher._seq["result"] += 2
    publisher.send_result(publisher.next_result(inspected(3), 100))
    kinds = [subscriber.receive(PATIENCE_MS) for _ in range(3)]
    assert isinstance(kinds[0], Result)
    assert kinds[1] == Gap(publisher._origin.boot, 2, 3)
    assert isinstance(kinds[2], Result)


@pytest.mark.parametrize(
    ("last", "gap"),
    [
        (None, None),
        (("boot", 2), None),
        (("boot", 1), Gap("boot", 2, 2)),
        (("other", 9), Gap("boot", 1, 2)),
        (("boot", 3), None),
    ],
)
def test_the_gap_before_result_3(last: tuple[str, int] | None, gap: Gap | None) -> None:
    assert gap_before(result(), last) == gap


def test_silence_is_none(subscriber: Subscriber) -> None:
    assert subscriber.receive(1) is None


def test_a_stranger_on_the_endpoint_is_an_error(bus: Bus) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as stranger:
        stranger.bind(bus.result)
        with Subscriber(bus, ("result",)) as subscriber:
            assert stranger.poll(PATIENCE_MS)
            stranger.send_multipart([b"result", b"hello"])
            with pytest.raises(MessageError):
                subscriber.receive(PATIENCE_MS)


def test_a_second_publisher_cannot_take_the_bus_over(bus: Bus, publisher: Publisher) -> None:
    assert publisher
    with pytest.raises(BusError, match="another `inspector run`"), Publisher(bus, "line1"):
        pass


def test_the_bus_is_free_again_after_its_publisher(bus: Bus) -> None:
    for _ in range(2):
        with Publisher(bus, "line1") as publisher:
            publisher.send_status("ready")


def test_an_endpoint_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    paths = {topic: f"ipc://{tmp_path}/file/{topic}" for topic in Bus.model_fields}
    with pytest.raises(BusError, match=r"file/result: cannot be made"), Publisher(Bus.model_validate(paths), "line1"):
        pass


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    paths = {topic: f"ipc://{folder}/{topic}" for topic in Bus.model_fields}
    with pytest.raises(BusError, match="xxx/result"), Publisher(Bus.model_validate(paths), "line1"):
        pass
