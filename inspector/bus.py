"""The station's bus: one ZeroMQ PUB socket a topic, and its subscribers. Knows the messages, not what they mean.

A subscriber that is slow or dead never delays the publisher: its messages are dropped, and the hole in `seq` shows it.
"""

import fcntl
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

import zmq

from inspector.curve import guard, lock, unlock
from inspector.inspection import NO_RECIPE, Inspection, RecipeId, Verdict
from inspector.messages import (
    Message,
    Origin,
    Result,
    State,
    Status,
    Topic,
    decode,
    encode,
    result_of,
    utc_text,
    view_of,
)
from inspector.station import Bus, Curve

TOPICS: tuple[Topic, ...] = get_args(Topic)
VIEW_PERIOD_NS = 100_000_000  # of accepted parts; the others are always shown
LINGER_MS = 200  # the last verdict leaves even when the process ends, but nothing holds the process longer

_HIGH_WATER = {"result": 1000, "view": 2, "status": 10}


class BusError(Exception):
    """The endpoints cannot be used; the text names them and what to do."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Results that were sent and never arrived here; their parts count as not inspected."""

    boot: str
    first: int
    last: int


class Publisher:
    """Sends what the loop found; the only publisher of its endpoints, ensured by a lock."""

    def __init__(
        self,
        bus: Bus,
        station: str,
        *,
        curve: Curve | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._curve = curve
        self._origin = Origin(station, uuid.uuid4().hex[:12])
        self._clock = clock
        self._wall = wall
        self._stack = ExitStack()
        self._sockets: dict[Topic, zmq.Socket[bytes]] = {}
        self._seq: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self._listening: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self._next_view_ns = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context(io_threads=1))
            guard(context, self._curve, stack)
            for topic in TOPICS:
                endpoint: str = getattr(self._bus, topic)
                claim(endpoint, stack)
                # XPUB is a PUB that tells whether anybody listens: without a subscriber no view is scaled or encoded.
                socket = stack.enter_context(context.socket(zmq.XPUB))
                socket.set(zmq.SNDHWM, _HIGH_WATER[topic])
                socket.set(zmq.LINGER, 0 if topic == "view" else LINGER_MS)
                lock(socket, endpoint, self._curve)
                use(socket.bind, endpoint)
                self._sockets[topic] = socket
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._sockets = {}
        self._stack.close()

    @property
    def boot(self) -> str:
        """Names this run of the station."""
        return self._origin.boot

    def next_result(self, inspection: Inspection, deadline_ms: float) -> Result:
        """Put an inspection into words, with the next number."""
        age_ns = self._clock() - inspection.frame.captured_ns
        return result_of(
            inspection, self._origin, seq=self._next("result"), deadline_ms=deadline_ms, sent_utc=self._utc(),
            age_ns=age_ns,
        )  # fmt: skip

    def send_result(self, result: Result) -> None:
        """Publish the verdict; never blocks."""
        self._send(result)

    def send_view(self, inspection: Inspection) -> None:
        """Publish image and map if anybody looks; accepted parts at most ten times a second."""
        now_ns = self._clock()
        shown = inspection.decision.verdict is not Verdict.ACCEPT or now_ns >= self._next_view_ns
        if shown and self.listeners("view"):
            self._next_view_ns = now_ns + VIEW_PERIOD_NS
            self._send(view_of(inspection, self._origin, self._next("view"), self._utc()))

    def send_status(
        self,
        state: State,
        *,
        reason: str = "",
        recipe: str = "",
        bundle: str = "",
        engine: str = "",
        counts: dict[Verdict, int] | None = None,
        publish_ms: float | None = None,
        alarm: str = "",
        recipe_id: RecipeId = NO_RECIPE,
        model: int = 0,
        changing_to: int = 0,
    ) -> None:
        """Publish the heartbeat; counts is the number of parts by verdict."""
        by_verdict = dict.fromkeys(Verdict, 0) | (counts or {})
        self._send(
            Status(
                station=self._origin.station,
                boot=self._origin.boot,
                seq=self._next("status"),
                sent_utc=self._utc(),
                state=state,
                reason=reason,
                recipe=recipe,
                bundle=bundle,
                engine=engine,
                parts=sum(by_verdict.values()),
                accepted=by_verdict[Verdict.ACCEPT],
                rejected=by_verdict[Verdict.REJECT],
                faults=by_verdict[Verdict.FAULT],
                result_seq=self._seq["result"],
                publish_ms=publish_ms,
                alarm=alarm,
                recipe_number=recipe_id.number,
                recipe_revision=recipe_id.revision,
                model=model,
                changing_to=changing_to,
            )
        )

    def listeners(self, topic: Topic, timeout_ms: int = 0) -> int:
        """Whether anybody subscribes to the topic (> 0), waiting so long for the first one."""
        socket = self._sockets[topic]
        while socket.poll(0 if self._listening[topic] else timeout_ms):
            self._listening[topic] += 1 if socket.recv()[:1] == b"\1" else -1
        return self._listening[topic]

    def _next(self, topic: Topic) -> int:
        self._seq[topic] += 1
        return self._seq[topic]

    def _utc(self) -> str:
        return utc_text(self._wall())

    def _send(self, message: Message) -> None:
        frames = encode(message)
        topic: Topic = "result" if isinstance(message, Result) else "status" if isinstance(message, Status) else "view"
        self._sockets[topic].send_multipart(frames)


class Subscriber:
    """Receives what a station publishes: every result and status in order, and the newest view only."""

    def __init__(self, bus: Bus, topics: Sequence[Topic] = TOPICS, *, curve: Curve | None = None) -> None:
        self._bus = bus
        self._curve = curve
        self._topics = topics
        self._stack = ExitStack()
        self._poller = zmq.Poller()
        self._sockets: dict[Topic, zmq.Socket[bytes]] = {}
        self._pending: deque[Message | Gap] = deque()
        self._last: tuple[str, int] | None = None  # boot and seq of the last result

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context(io_threads=1))
            for topic in self._topics:
                socket = stack.enter_context(context.socket(zmq.SUB))
                socket.set(zmq.LINGER, 0)
                socket.set(zmq.RCVHWM, _HIGH_WATER[topic])
                socket.set(zmq.RECONNECT_IVL, 50)
                socket.set(zmq.SUBSCRIBE, topic.encode())
                use(socket.connect, unlock(socket, getattr(self._bus, topic), self._curve))
                self._poller.register(socket, zmq.POLLIN)
                self._sockets[topic] = socket
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._sockets = {}
        self._stack.close()

    def receive(self, timeout_ms: int) -> Message | Gap | None:
        """Give the next message, or the gap before it, or None when nothing came in time.

        Raises:
            MessageError: the station speaks another version, or something else publishes there.
        """
        if not self._pending:
            ready = dict(self._poller.poll(timeout_ms))
            for topic, socket in self._sockets.items():
                if socket in ready:
                    self._take(topic, socket)
        return self._pending.popleft() if self._pending else None

    def _take(self, topic: Topic, socket: "zmq.Socket[bytes]") -> None:
        frames = socket.recv_multipart()
        while topic == "view" and socket.poll(0):
            frames = socket.recv_multipart()
        message = decode(frames)
        if isinstance(message, Result):
            if gap := gap_before(message, self._last):
                self._pending.append(gap)
            self._last = (message.boot, message.seq)
        self._pending.append(message)


def gap_before(result: Result, last: tuple[str, int] | None) -> Gap | None:
    """Which results are missing between the last one seen, as (boot, seq), and this one.

    The first one ever seen has no gap before it: a subscriber may join at any time. A new boot counts from 1.
    """
    if last is None:
        return None
    boot, seq = last
    expected = seq + 1 if boot == result.boot else 1
    return Gap(result.boot, expected, result.seq - 1) if result.seq > expected else None


def open_dealer(endpoint: str, curve: Curve | None, stack: ExitStack) -> "zmq.Socket[bytes]":
    """A DEALER that says things to a station that is there, and keeps none for a later one.

    Raises:
        BusError, CurveError: the endpoint or its keys cannot be used.
    """
    context = stack.enter_context(zmq.Context(io_threads=1))
    socket = stack.enter_context(context.socket(zmq.DEALER))
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RECONNECT_IVL, 50)
    socket.set(zmq.IMMEDIATE, 1)
    use(socket.connect, unlock(socket, endpoint, curve))
    return socket


def claim(endpoint: str, stack: ExitStack) -> None:
    """Make an ipc socket's folder and lock it: a second `bind` would take an ipc path over without a word.

    Raises:
        BusError: another process has it, or it cannot be made.
    """
    if not endpoint.startswith("ipc://"):
        return
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = stack.enter_context(path.with_name(path.name + ".lock").open("a"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusError(f"{endpoint}: another `inspector run` publishes there: stop it, or set another [bus]") from error
    except OSError as error:
        raise BusError(f"{endpoint}: cannot be made ({error.strerror}): set [bus] to a folder you may write") from error


def use(act: Callable[[str], object], endpoint: str) -> None:
    """Bind or connect.

    Raises:
        BusError: the endpoint cannot be used.
    """
    try:
        act(endpoint)
    except zmq.ZMQError as error:
        raise BusError(f"{endpoint}: {error.strerror}: correct [bus] in station.toml") from error
