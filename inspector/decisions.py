"""Decisions to whoever must not miss one (the PLC bridge, the recorder): in order, without holes, over any restart.

The journal is the outbox: a follower says up to which decision it has them, gets what comes after and acknowledges what
it has dealt with. A follower that is slow, dead or new costs the station nothing and misses nothing.

The wire, beside that of `inspector.messages`: the station binds a ROUTER, a follower connects a DEALER, each message is
one MessagePack map in one frame. Follower: `{kind: follow, v, after}`, `{kind: ack, v, id}`. Station:
`{kind: decision, v, id, result}`, whose result is that of `messages.Result`, and several times a second
`{kind: tip, v, id, boot}`, the last decision that there is.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import zmq

from inspector.bus import claim, open_dealer, use
from inspector.curve import guard, lock
from inspector.journal import Journal, last_id, read
from inspector.messages import VERSION, MessageError, Result
from inspector.station import Curve

WINDOW = 64  # decisions that a follower may have unacknowledged
RESEND_NS = 1_000_000_000  # without an acknowledgement
FORGET_NS = 5_000_000_000  # a follower that is silent: it says again what it wants when it is back
TIP_NS = 200_000_000
SILENT_S = 1.0  # without a word from the station: the follower asks again
NEWEST = -1  # to follow from now on
BATCH = 32  # decisions read from the journal at once, so that the loop is not held up


class _Word(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    v: int = VERSION


class _Version(msgspec.Struct):
    v: int


class Follow(_Word, frozen=True, kw_only=True, tag="follow"):
    """The follower has all decisions up to this one; `NEWEST`: it wants none of what was decided before."""

    after: int


class Ack(_Word, frozen=True, kw_only=True, tag="ack"):
    """The follower has dealt with all decisions up to this one."""

    id: int


class Decision(_Word, frozen=True, kw_only=True, tag="decision"):
    """One decision, as the journal has it."""

    id: int  # counts up without holes, over restarts too
    result: Result


class Tip(_Word, frozen=True, kw_only=True, tag="tip"):
    """The last decision that there is, and which process of the station decides now."""

    id: int
    boot: str


_encode = msgspec.msgpack.Encoder().encode
_from_follower = msgspec.msgpack.Decoder(Follow | Ack)
_from_station = msgspec.msgpack.Decoder(Decision | Tip)
_version = msgspec.msgpack.Decoder(_Version)


@dataclass
class _Follower:
    sent: int  # up to this id
    acknowledged: int
    heard_ns: int
    moved_ns: int  # when it acknowledged something, or was sent something after a pause


class DecisionServer:
    """The station's end; everything happens in the loop's thread, in `send` and `serve`."""

    def __init__(
        self,
        endpoint: str,
        journal: Path,
        boot: str,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        curve: Curve | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._curve = curve
        self._journal = journal
        self._boot = boot
        self._clock = clock
        self._stack = ExitStack()
        self._socket: zmq.Socket[bytes] | None = None
        self._followers: dict[bytes, _Follower] = {}
        self._tip = 0
        self._next_tip_ns = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context(io_threads=1))
            claim(self._endpoint, stack)
            guard(context, self._curve, stack)
            socket = stack.enter_context(context.socket(zmq.ROUTER))
            socket.set(zmq.ROUTER_MANDATORY, 1)  # a follower that is gone or full is an error here, not silence
            socket.set(zmq.ROUTER_HANDOVER, 1)
            socket.set(zmq.SNDHWM, 2 * WINDOW)
            socket.set(zmq.LINGER, 0)
            lock(socket, self._endpoint, self._curve)
            use(socket.bind, self._endpoint)
            self._socket = socket
            self._tip = last_id(self._journal)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket = None
        self._stack.close()

    def send(self, number: int, result: Result) -> None:
        """Tell those who have everything before it; the others get it from the journal in their turn. Never blocks."""
        message = _encode(Decision(id=number, result=result))
        for name, follower in list(self._followers.items()):
            if follower.sent == number - 1 and number - follower.acknowledged <= WINDOW:
                self._send(name, follower, number, message)
        self._tip = number
        self.serve()

    def serve(self) -> None:
        """Take what followers say, send what they lack, send again what they did not acknowledge. Never blocks."""
        now_ns = self._clock()
        self._receive(now_ns)
        for name, follower in list(self._followers.items()):
            if now_ns - follower.heard_ns > FORGET_NS:
                del self._followers[name]
                continue
            if follower.sent > follower.acknowledged and now_ns - follower.moved_ns > RESEND_NS:
                follower.sent, follower.moved_ns = follower.acknowledged, now_ns
            self._catch_up(name, follower)
        if now_ns >= self._next_tip_ns:
            self._next_tip_ns = now_ns + TIP_NS
            message = _encode(Tip(id=self._tip, boot=self._boot))
            for name, follower in list(self._followers.items()):
                self._send(name, follower, follower.sent, message)

    def _receive(self, now_ns: int) -> None:
        if self._socket is None:
            return
        while self._socket.poll(0):
            name, *frames = self._socket.recv_multipart()
            try:
                word = _from_follower.decode(frames[-1]) if frames else None
            except msgspec.MsgspecError:
                continue  # no follower of this version: it gets nothing
            if isinstance(word, Follow):
                after = min(word.after, self._tip) if word.after >= 0 else self._tip
                self._followers[name] = _Follower(after, after, now_ns, now_ns)
                self._next_tip_ns = now_ns
            elif isinstance(word, Ack) and (follower := self._followers.get(name)):
                follower.heard_ns = now_ns
                if word.id > follower.acknowledged:
                    follower.acknowledged, follower.moved_ns = min(word.id, follower.sent), now_ns

    def _catch_up(self, name: bytes, follower: _Follower) -> None:
        room = min(BATCH, WINDOW - (follower.sent - follower.acknowledged))
        if follower.sent >= self._tip or room <= 0:
            return
        for number, result in read(self._journal, after=follower.sent, most=room):
            self._send(name, follower, number, _encode(Decision(id=number, result=result)))

    def _send(self, name: bytes, follower: _Follower, sent: int, message: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send_multipart([name, message], zmq.DONTWAIT)
        except zmq.ZMQError:
            self._followers.pop(name, None)  # gone or full: it says again what it wants
            return
        if follower.sent == follower.acknowledged and sent > follower.sent:
            follower.moved_ns = self._clock()
        follower.sent = max(follower.sent, sent)


class Outbox:
    """What the loop does with a decision: on disk first, then to those who must not miss it."""

    def __init__(self, journal: Journal, server: DecisionServer) -> None:
        self._journal = journal
        self._server = server

    @property
    def alarm(self) -> str:
        """What is wrong with the journal, or empty."""
        return self._journal.alarm

    def keep(self, result: Result, timeout_s: float) -> int | None:
        """Write a decision to the journal; None when it is not safely there in time."""
        return self._journal.append(result, timeout_s)

    def tell(self, number: int, result: Result) -> None:
        """Send a decision that is in the journal."""
        self._server.send(number, result)

    def serve(self) -> None:
        """Send what followers lack; call it at least ten times a second."""
        self._server.serve()


class DecisionFollower:
    """A follower's end: every decision once, in order, from the one after `after` on."""

    def __init__(
        self,
        endpoint: str,
        *,
        after: int,
        clock: Callable[[], float] = time.monotonic,
        curve: Curve | None = None,
    ) -> None:
        """`after` of `NEWEST` leaves out all that was decided before."""
        self._endpoint = endpoint
        self._curve = curve
        self._clock = clock
        self._stack = ExitStack()
        self._socket: zmq.Socket[bytes] | None = None
        self._heard = 0.0
        self.received = after  # up to this id
        self._acknowledged = after
        self.boot = ""  # of the station, as it said last

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._socket = open_dealer(self._endpoint, self._curve, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket = None
        self._stack.close()

    def receive(self, timeout_ms: int) -> Decision | None:
        """The next decision, or None when none came in time; acknowledge it once it is dealt with.

        Raises:
            MessageError: the station speaks another version.
        """
        if self._clock() - self._heard > SILENT_S:
            self._heard = self._clock()
            self._say(Follow(after=self.received))
        if self._socket is None or not self._socket.poll(timeout_ms):
            return None
        word = _decoded(self._socket.recv())
        self._heard = self._clock()
        if isinstance(word, Tip):
            self._take_tip(word)
            return None
        if self.received >= 0 and word.id != self.received + 1:  # sent again, or one is missing: both mend themselves
            return None
        self.received = word.id
        return word

    def _take_tip(self, tip: Tip) -> None:
        self.boot = tip.boot
        if self.received < 0 or tip.id < self.received:  # the first word, or the station's journal is another one
            self.received = self._acknowledged = tip.id
        self._say(Ack(id=self._acknowledged))  # a sign of life

    def acknowledge(self, number: int) -> None:
        """All decisions up to this one are dealt with."""
        self._acknowledged = number
        self._say(Ack(id=number))

    def _say(self, word: Follow | Ack) -> None:
        if self._socket is not None:
            try:
                self._socket.send(_encode(word), zmq.DONTWAIT)
            except zmq.Again:
                self._heard = 0.0  # there is no station yet: ask again


def _decoded(message: bytes) -> Decision | Tip:
    try:
        version = _version.decode(message).v
        if version != VERSION:
            raise MessageError(f"message version {version} is not {VERSION}: update the older side")
        word: Decision | Tip = _from_station.decode(message)
    except msgspec.MsgspecError as error:
        raise MessageError(f"the decision cannot be read: {error}") from error
    return word
