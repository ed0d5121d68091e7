"""What a station is asked to do by the PLC bridge: expose a part. Requests carry an id, and each gets one answer.

The wire, beside that of `inspector.messages`: the station binds a ROUTER, whoever asks connects a DEALER, each message
is one MessagePack map in one frame. Asked: `{kind: expose, v, request, trigger, part_id, encoder, asked_ns}`. Answered:
`{kind: answer, v, request, ok, text}`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from threading import Event, Thread
from typing import Self

import msgspec
import zmq

from inspector.bus import claim, open_dealer, use
from inspector.camera import CameraError, Trigger
from inspector.messages import VERSION

POLL_MS = 100


class Expose(msgspec.Struct, frozen=True, kw_only=True, tag="expose", tag_field="kind"):
    """A part is in front of the camera."""

    v: int = VERSION
    request: int
    trigger: int  # comes back in the decision
    part_id: str
    encoder: int = 0
    asked_ns: int = 0  # monotonic clock of the station's machine when the part was there; 0: the station does not check


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer", tag_field="kind"):
    """Whether the station does what it was asked."""

    v: int = VERSION
    request: int
    ok: bool
    text: str = ""


class _Any(msgspec.Struct):
    v: int = 0
    request: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode_expose = msgspec.msgpack.Decoder(Expose).decode
_decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_any = msgspec.msgpack.Decoder(_Any).decode


class ControlServer:
    """The station's end; in a thread of its own, because a trigger cannot wait for the part that is being inspected."""

    def __init__(self, endpoint: str, expose: Callable[[Trigger], None]) -> None:
        """`expose` is called in the server's thread; it raises `CameraError` where the camera takes no triggers."""
        self._endpoint = endpoint
        self._expose = expose
        self._ended = Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context(io_threads=1))
            claim(self._endpoint, stack)
            socket = stack.enter_context(context.socket(zmq.ROUTER))
            socket.set(zmq.LINGER, 0)
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
            if socket.poll(POLL_MS):
                name, *frames = socket.recv_multipart()
                answer = self._answer(frames[-1] if frames else b"")
                if answer is not None:
                    socket.send_multipart([name, _encode(answer)], zmq.DONTWAIT)

    def _answer(self, message: bytes) -> Answer | None:
        try:
            version = _decode_any(message)
        except msgspec.MsgspecError:
            return None  # it does not even say which request it is
        if version.v != VERSION:
            return Answer(request=version.request, ok=False, text=f"version {version.v} is not {VERSION}")
        try:
            asked = _decode_expose(message)
            self._expose(Trigger(asked.trigger, asked.part_id, asked.encoder, asked.asked_ns))
        except (msgspec.MsgspecError, CameraError) as error:
            return Answer(request=version.request, ok=False, text=str(error))
        return Answer(request=asked.request, ok=True)


class ControlClient:
    """The other end. Asking never blocks; answers are taken when they come."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._stack = ExitStack()
        self._socket: zmq.Socket[bytes] | None = None
        self._requests = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._socket = open_dealer(self._endpoint, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket = None
        self._stack.close()

    def expose(self, trigger: Trigger) -> bool:
        """Ask for a part to be exposed; False when the station is not there."""
        self._requests += 1
        asked = Expose(
            request=self._requests,
            trigger=trigger.token,
            part_id=trigger.part_id,
            encoder=trigger.encoder,
            asked_ns=trigger.asked_ns,
        )
        if self._socket is None:
            return False
        try:
            self._socket.send(_encode(asked), zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def answer(self, timeout_ms: int = 0) -> Answer | None:
        """The next answer, or None when there is none in time."""
        if self._socket is None or not self._socket.poll(timeout_ms):
            return None
        return _decode_answer(self._socket.recv())
