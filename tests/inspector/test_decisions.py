"""Nothing is lost on the way from the journal to a follower, and nothing comes twice, whoever restarts."""

import itertools
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from inspector.bus import BusError
from inspector.decisions import RESEND_NS, WINDOW, DecisionFollower, DecisionServer
from inspector.journal import Journal
from inspector.messages import MessageError

from .test_journal import result


class Station:
    """Journal and server, with a clock that is told what to do."""

    def __init__(self, endpoint: str, path: Path, boot: str = "b1") -> None:
        self.now_ns = 0
        self._stack = ExitStack()
        self.journal = self._stack.enter_context(Journal(path, reserve_bytes=4096))
        self.server = self._stack.enter_context(DecisionServer(endpoint, path, boot, lambda: self.now_ns))
        self._seq = itertools.count(1)
        self._boot = boot

    def decide(self) -> int:
        found = result(next(self._seq), boot=self._boot)
        number = self.journal.append(found, 5.0)
        assert number is not None
        self.server.send(number, found)
        return number

    def stop(self) -> None:
        self._stack.close()


@pytest.fixture
def endpoint() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="insp-") as folder:
        yield f"ipc://{folder}/decision"


@pytest.fixture
def station(endpoint: str, tmp_path: Path) -> Iterator[Station]:
    opened = Station(endpoint, tmp_path / "journal.sqlite")
    yield opened
    opened.stop()


def take(follower: DecisionFollower, station: Station, count: int, *, acknowledge: bool = True) -> list[int]:
    """So many decisions, while the station serves and its time goes on."""
    seen: list[int] = []
    for _ in range(400 + 20 * count):
        station.now_ns += 20_000_000
        station.server.serve()
        decision = follower.receive(5)
        if decision is not None:
            seen.append(decision.id)
            if acknowledge:
                follower.acknowledge(decision.id)
            if len(seen) == count:
                return seen
    raise AssertionError(f"{len(seen)} of {count} came: {seen[:5]} ... {seen[-5:]}")


def test_a_new_follower_gets_what_was_decided_before_it_came(endpoint: str, station: Station) -> None:
    for _ in range(100):
        station.decide()
    with DecisionFollower(endpoint, after=0) as follower:
        assert take(follower, station, 100) == list(range(1, 101))
        assert follower.boot == "b1"
    with DecisionFollower(endpoint, after=97) as follower:
        assert take(follower, station, 3) == [98, 99, 100]


def test_decisions_come_as_they_are_made(endpoint: str, station: Station) -> None:
    with DecisionFollower(endpoint, after=0) as follower:
        follower.receive(50)
        for number in range(1, 30):
            station.decide()
            assert take(follower, station, 1) == [number]


def test_a_follower_that_does_not_acknowledge_gets_them_again(endpoint: str, station: Station) -> None:
    for _ in range(3):
        station.decide()
    with DecisionFollower(endpoint, after=0) as follower:
        assert take(follower, station, 3, acknowledge=False) == [1, 2, 3]
        sent = station.server._followers
        station.now_ns += RESEND_NS + 1
        station.server.serve()
        assert next(iter(sent.values())).sent == 3
        assert follower.receive(50) is None  # the first once more, which it has


def test_a_slow_follower_is_never_sent_more_than_the_window(endpoint: str, station: Station) -> None:
    with DecisionFollower(endpoint, after=0) as follower:
        while not station.server._followers:
            follower.receive(5)
            station.server.serve()
        for _ in range(3 * WINDOW):
            station.decide()
        flow = next(iter(station.server._followers.values()))
        assert flow.sent <= WINDOW
        assert take(follower, station, 3 * WINDOW) == list(range(1, 3 * WINDOW + 1))


def test_a_station_that_restarts_goes_on_where_it_was(endpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    station = Station(endpoint, path)
    with DecisionFollower(endpoint, after=0) as follower:
        station.decide()
        assert take(follower, station, 1) == [1]
        station.decide()
        station.stop()
        station = Station(endpoint, path, boot="b2")
        station.decide()
        assert take(follower, station, 2) == [2, 3]
        station.stop()


def test_nothing_is_lost_while_followers_come_and_go(endpoint: str, station: Station) -> None:
    """A follower keeps what it acknowledged, and is stopped anywhere."""
    dice, kept, made = random.Random(4), 0, 0  # noqa: S311
    while kept < 1000:
        with DecisionFollower(endpoint, after=kept) as follower:
            for _ in range(dice.randrange(1, 200)):
                if made < 1000 and dice.random() < 0.7:
                    made = station.decide()
                station.now_ns += 5_000_000
                station.server.serve()
                decision = follower.receive(1)
                if decision is not None:
                    assert decision.id == kept + 1
                    assert decision.result.part_id == f"p{decision.id}"
                    kept = decision.id
                    if dice.random() < 0.5:
                        follower.acknowledge(kept)


def test_two_stations_cannot_share_an_endpoint(endpoint: str, station: Station, tmp_path: Path) -> None:
    assert station.server
    with pytest.raises(BusError, match="another `inspector run`"):
        Station(endpoint, tmp_path / "other.sqlite")


def test_a_station_of_another_version_is_an_error(endpoint: str) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        DecisionFollower(endpoint, after=0) as follower,
    ):
        router.bind(endpoint)
        for _ in range(50):
            follower._heard = 0.0
            follower.receive(20)
            if router.poll(0):
                break
        name = router.recv_multipart()[0]
        router.send_multipart([name, b"\x82\xa1v\x02\xa4kind\xa3tip"])
        with pytest.raises(MessageError, match="version 2 is not 1"):
            follower.receive(500)
