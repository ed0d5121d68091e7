"""What a station is asked to do: expose a part, change to another recipe. Each request has an id and gets one answer.

The wire, beside that of `inspector.messages`: the station binds a ROUTER, whoever asks connects a DEALER, each message
is one MessagePack map in one frame. Asked: `{kind: expose, v, request, trigger, part_id, encoder, asked_ns, recipe,
revision}` or `{kind: change, v, request, recipe, by}`. Answered: `{kind: answer, v, request, ok, text, code, recipe,
revision}`, at once where a part is to be exposed, and when it has ended where another recipe is wanted.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread
from typing import Self

import msgspec
import zmq

from inspector.bus import claim, open_dealer, use
from inspector.camera import CameraError, Trigger
from inspector.curve import guard, lock
from inspector.inspection import NO_RECIPE, RecipeId, Refusal
from inspector.messages import VERSION
from inspector.station import Curve

POLL_MS = 100
PENDING_POLL_MS = 10  # while an answer is owed


class Expose(msgspec.Struct, frozen=True, kw_only=True, tag="expose", tag_field="kind"):
    """A part is in front of the camera."""

    v: int = VERSION
    request: int
    trigger: int  # comes back in the decision
    part_id: str
    encoder: int = 0
    asked_ns: int = 0  # monotonic clock of the station's machine when the part was there; 0: the station does not check
    recipe: int = 0  # that is active as far as whoever asks knows, or the part is not exposed; 0: whichever is
    revision: int = 0  # of that recipe


class Change(msgspec.Struct, frozen=True, kw_only=True, tag="change", tag_field="kind"):
    """Another recipe is wanted, or the same one anew from its files."""

    v: int = VERSION
    request: int
    recipe: int
    by: str = ""  # who asks, for the record


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer", tag_field="kind"):
    """Whether the station does what it was asked, or has done it."""

    v: int = VERSION
    request: int
    ok: bool
    text: str = ""
    code: int = 0  # a `Refusal`
    recipe: int = 0  # of a change: what is active now
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """How a request for another recipe has ended."""

    refusal: Refusal
    text: str  # why it was refused
    active: RecipeId


class NotDoneError(Exception):
    """What is asked for is not done; the text says why."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal


def no_change(number: int, _by: str) -> "Future[Changed]":
    """The answer of a station that has nothing to change to."""
    answer: Future[Changed] = Future()
    answer.set_result(Changed(Refusal.NO_RECIPE, f"recipe {number} cannot be loaded here", NO_RECIPE))
    return answer


class _Any(msgspec.Struct):
    v: int = 0
    request: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode_asked = msgspec.msgpack.Decoder(Expose | Change).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_any = msgspec.msgpack.Decoder(_Any).decode


class ControlServer:
    """The station's end; in a thread of its own, because a trigger cannot wait for the part that is being inspected."""

    def __init__(
        self,
        endpoint: str,
        expose: Callable[[Trigger], None],
        change: "Callable[[int, str], Future[Changed]]" = no_change,
        *,
        curve: Curve | None = None,
    ) -> None:
        """Both are called in the server's thread.

        Args:
            endpoint: to bind.
            expose: raises `CameraError` where the camera takes no triggers, `NotDoneError` where the part is
                not wanted.
            change: is told a recipe's number and who asks, and returns at once.
            curve: who may reach a tcp:// endpoint.
        """
        self._endpoint = endpoint
        self._curve = curve
        self._expose = expose
        self._change = change
        self._owed: list[tuple[bytes, int, Future[Changed]]] = []
        self._ended = Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context(io_threads=1))
            claim(self._endpoint, stack)
            guard(context, self._curve, stack)
            socket = stack.enter_context(context.socket(zmq.ROUTER))
            socket.set(zmq.LINGER, 0)
            lock(socket, self._endpoint, self._curve)
            use(socket.bind, self._endpoint)
            thread = Thread(target=self._serve, args=(socket,), name="control", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._ended.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _serve(self, socket: "zmq.Socket[bytes]") -> None:
        while not self._ended.is_set():
            if socket.poll(PENDING_POLL_MS if self._owed else POLL_MS):
                name, *frames = socket.recv_multipart()
                answer = self._answer(name, frames[-1] if frames else b"")
                if answer is not None:
                    socket.send_multipart([name, _encode(answer)], zmq.DONTWAIT)
            for owed in [owed for owed in self._owed if owed[2].done()]:
                self._owed.remove(owed)
                name, request, changed = owed
                socket.send_multipart([name, _encode(_answer_of(request, changed.result()))], zmq.DONTWAIT)

    def _answer(self, name: bytes, message: bytes) -> Answer | None:
        try:
            version = _decode_any(message)
        except msgspec.MsgspecError:
            return None  # it does not even say which request it is
        if version.v != VERSION:
            return Answer(request=version.request, ok=False, text=f"version {version.v} is not {VERSION}")
        try:
            asked = _decode_asked(message)
            if isinstance(asked, Change):
                self._owed.append((name, asked.request, self._change(asked.recipe, asked.by)))
                return None
            told = RecipeId(asked.recipe, asked.revision)
            self._expose(Trigger(asked.trigger, asked.part_id, asked.encoder, asked.asked_ns, recipe=told))
        except NotDoneError as error:
            return Answer(request=version.request, ok=False, text=str(error), code=error.refusal)
        except (msgspec.MsgspecError, CameraError) as error:
            return Answer(request=version.request, ok=False, text=str(error))
        return Answer(request=asked.request, ok=True)


def _answer_of(request: int, changed: Changed) -> Answer:
    return Answer(
        request=request,
        ok=changed.refusal is Refusal.NONE,
        text=changed.text,
        code=changed.refusal,
        recipe=changed.active.number,
        revision=changed.active.revision,
    )


class ControlClient:
    """The other end. Asking never blocks; answers are taken when they come."""

    def __init__(self, endpoint: str, *, curve: Curve | None = None) -> None:
        self._endpoint = endpoint
        self._curve = curve
        self._stack = ExitStack()
        self._socket: zmq.Socket[bytes] | None = None
        self._requests = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._socket = open_dealer(self._endpoint, self._curve, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket = None
        self._stack.close()

    def expose(self, trigger: Trigger) -> int:
        """Ask for a part to be exposed; the request's id, or 0 when the station is not there."""
        return self._ask(
            Expose(
                request=self._requests + 1,
                trigger=trigger.token,
                part_id=trigger.part_id,
                encoder=trigger.encoder,
                asked_ns=trigger.asked_ns,
                recipe=trigger.recipe.number,
                revision=trigger.recipe.revision,
            )
        )

    def change(self, recipe: int, by: str) -> int:
        """Ask for another recipe; the request's id, or 0 when the station is not there."""
        return self._ask(Change(request=self._requests + 1, recipe=recipe, by=by))

    def _ask(self, asked: Expose | Change) -> int:
        if self._socket is None:
            return 0
        try:
            self._socket.send(_encode(asked), zmq.DONTWAIT)
        except zmq.Again:
            return 0
        self._requests = asked.request
        return asked.request

    def answer(self, timeout_ms: int = 0) -> Answer | None:
        """The next answer, or None when there is none in time."""
        if self._socket is None or not self._socket.poll(timeout_ms):
            return None
        return _decode_answer(self._socket.recv())
