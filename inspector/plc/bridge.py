"""The PLC bridge: a process between the PLC's protocol and a station. It wires the handshake to sockets, no more.

It hears decisions from the journal's bus, and so never passes on an accept that is not on disk. When it dies, the PLC's
heartbeat for the station stands still; when the station dies, the same.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Self

from inspector.bus import Subscriber
from inspector.camera import Trigger
from inspector.control import Answer, ControlClient
from inspector.decisions import NEWEST, DecisionFollower
from inspector.inspection import NO_RECIPE, Cause, RecipeId, Refusal, Verdict
from inspector.messages import Result, Status
from inspector.plc import PlcInputs, PlcOutputs, Reason
from inspector.plc.handshake import Action, ChangeRecipe, Decided, Handshake, StartInspection, StationState
from inspector.station import Station, plc_of

TICK_S = 0.005
POLL_MS = 100

REASONS = {
    Cause.NONE: Reason.NONE,
    Cause.THRESHOLD: Reason.OVER_THRESHOLD,
    Cause.LATE: Reason.TIMEOUT,
    Cause.CAMERA: Reason.CAMERA,
    Cause.MODEL: Reason.MODEL,
    Cause.JOURNAL: Reason.NOT_JOURNALLED,
    Cause.RECIPE: Reason.NO_RECIPE,
}

log = logging.getLogger(__name__)


class Bridge:
    """One PLC and one station; everything happens in one asyncio loop but the waiting for sockets."""

    def __init__(self, station: Station, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Make the bridge of a station.

        Raises:
            StationError: it serves no PLC.
        """
        self._plc = plc_of(station)
        self._clock = clock
        self._boot_id = 1 + secrets.randbelow(0xFFFF)
        self._handshake = Handshake(self._boot_id, round(station.deadline_ms * 1e6))
        self._control = ControlClient(station.bus.control, curve=station.curve)
        self._follower = DecisionFollower(station.bus.decision, after=NEWEST, curve=station.curve)
        self._subscriber = Subscriber(station.bus, ("status", "result"), curve=station.curve)
        self._stack = ExitStack()
        self._boot = ""  # of the station's process
        self._asked: dict[int, Action] = {}  # of the station, and not answered

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for socket in (self._control, self._follower, self._subscriber):
                stack.enter_context(socket)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    async def run(self, stop: Callable[[], bool]) -> None:
        """Serve the PLC until asked to stop.

        Raises:
            PlcPortError: the PLC's protocol cannot be served.
            MessageError: the station speaks another version.
        """
        async with self._port():
            tasks = [asyncio.create_task(work(stop)) for work in (self._follow, self._watch, self._tick)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def wrote(self, inputs: PlcInputs, since_ns: int | None = None) -> None:
        """The PLC has written, just now or at some time since then, by the clock."""
        now_ns = self._clock()
        for action in self._handshake.plc_wrote(inputs, now_ns):
            self._act(action, now_ns if since_ns is None else since_ns)

    def lost(self) -> None:
        """The connection to the PLC is lost."""
        self._handshake.plc_lost()

    def outputs(self) -> PlcOutputs:
        """What the PLC reads now."""
        self._handshake.tick(self._clock())
        return self._handshake.outputs(self._clock())

    def _port(self) -> AbstractAsyncContextManager[None]:
        plc, port = self._plc, self._plc.tcp_port
        log.info("%s on %s:%d, boot id %d", plc.protocol, plc.host, port, self._boot_id)
        if plc.client is not None:
            from inspector.plc.client import PlcClient
            from inspector.plc.memory import memory_of

            client = PlcClient(
                memory_of(plc), plc.client.poll_ms, self.wrote, self.lost, self.outputs, clock=self._clock
            )
            return client.serving()
        if plc.opcua is not None:
            from inspector.plc.opcua import OpcUaServer

            return OpcUaServer(plc.host, port, self.wrote, self.outputs, plc.opcua).serving()
        from inspector.plc.modbus import ModbusServer

        return ModbusServer(plc.host, port, self.wrote, self.outputs).serving()

    def _act(self, action: Action, asked_ns: int) -> None:
        if isinstance(action, StartInspection):
            token = self._boot_id << 32 | action.token
            trigger = Trigger(token, action.part_id, action.encoder, asked_ns, recipe=action.recipe)
            request = self._control.expose(trigger)
            if not request:
                self._refuse(action.token, Reason.NOT_JOURNALLED)
        else:
            log.info("the PLC asks for recipe %d", action.recipe)
            request = self._control.change(action.recipe, "the PLC")
            if not request:
                self._handshake.recipe_changed(action.token, Refusal.NOT_ANSWERED, NO_RECIPE, self._clock())
        if request:
            self._asked[request] = action

    def _refuse(self, token: int, reason: Reason) -> None:
        refused = Decided(token, Verdict.FAULT, reason, 0.0, 0, journalled=True, recipe=NO_RECIPE)
        self._handshake.decided(refused, self._clock())

    def _answered(self, answer: Answer) -> None:
        """A part that the station does not expose is not inspected; a change of recipes has ended."""
        action = self._asked.pop(answer.request, None)
        if isinstance(action, ChangeRecipe):
            active = RecipeId(answer.recipe, answer.revision)
            refusal = 0 if answer.ok else answer.code or Refusal.NOT_ANSWERED
            if refusal:
                log.error("recipe %d is refused: %s", action.recipe, answer.text)
            self._handshake.recipe_changed(action.token, refusal, active, self._clock())
        elif action is not None and not answer.ok:
            log.error("the station does not expose a part: %s", answer.text)
            self._refuse(action.token, Reason.NO_RECIPE if answer.code else Reason.CAMERA)

    async def _follow(self, stop: Callable[[], bool]) -> None:
        while not stop():
            decision = await asyncio.to_thread(self._follower.receive, POLL_MS)
            if decision is not None:
                self._decided(decision.result, journalled=True)
                self._follower.acknowledge(decision.id)
            if self._follower.boot != self._boot:
                if self._boot:
                    log.warning("the station was restarted: what was under way is not inspected")
                self._boot = self._follower.boot
                self._asked.clear()
                self._handshake.station_restarted(self._clock())

    def _decided(self, result: Result, *, journalled: bool) -> None:
        token = result.trigger
        if token is None or token >> 32 != self._boot_id:
            return  # a part that this bridge did not ask for
        self._handshake.decided(
            Decided(
                token & 0xFFFFFFFF,
                result.verdict,
                REASONS[result.cause],
                result.score if result.score is not None else 0.0,
                round(sum(result.timings.values())),
                journalled,
                RecipeId(result.recipe_number, result.recipe_revision),
            ),
            self._clock(),
        )

    async def _watch(self, stop: Callable[[], bool]) -> None:
        while not stop():
            message = await asyncio.to_thread(self._subscriber.receive, POLL_MS)
            if isinstance(message, Status):
                self._handshake.station_said(self._state(message), self._clock())
            elif isinstance(message, Result) and message.cause is Cause.JOURNAL:
                self._decided(message, journalled=False)  # it will not come out of the journal

    def _state(self, status: Status) -> StationState:
        fresh = status.boot == self._boot  # its decisions can be heard, too
        return StationState(
            ready=status.ready and fresh,
            heartbeat=status.seq & 0xFFFF,
            recipe=RecipeId(status.recipe_number, status.recipe_revision),
            model_id=status.model,
            changing=status.changing_to != 0,
        )

    async def _tick(self, stop: Callable[[], bool]) -> None:
        while not stop():
            self._handshake.tick(self._clock())
            while (answer := self._control.answer()) is not None:
                self._answered(answer)
            await asyncio.sleep(TICK_S)
