"""The handshake between a PLC and a station, as a pure state machine: no socket, no clock, no thread.

Whoever drives it says what the PLC has written, what the station decided, how the station is, and what time it is, and
gets the registers that the PLC is to read and the actions to take. Three things hold whatever the order of events
(`tests/inspector/test_handshake.py` tries them all):

* A result is OK only for an accepted decision on that very part that is in the journal, before its deadline, under the
  recipe that was told to be active when the part was triggered.
* Every trigger that is seen gets exactly one result, at its deadline at the latest.
* Ready is set only while a part could really be inspected.
"""

from collections import deque
from dataclasses import dataclass, field, replace

from inspector.inspection import NO_RECIPE, RecipeId, Refusal, Verdict
from inspector.plc import (
    MOST_TRIGGERS,
    Command,
    Counters,
    Outcome,
    PlcInputs,
    PlcOutputs,
    Reason,
    StatusBit,
)

MOST_UNDER_WAY = 8  # parts between trigger and acknowledged result
MOST_AHEAD = 1000  # by which a trigger's number may be ahead of the last one's
PLC_SILENT_NS = 1_500_000_000  # its heartbeat has stood still for so long: it is gone
STATION_SILENT_NS = 1_000_000_000  # the same of the station's
CHANGEOVER_NS = 60_000_000_000  # a change of recipes takes no longer, or was never answered
EXCHANGES_TO_READ = 2  # between two heartbeats that a PLC writes it has read: then it knows which recipe is active
ID_LENGTH = 20


@dataclass(frozen=True, slots=True)
class StartInspection:
    """Expose and inspect one part."""

    token: int  # names the part in `Decided`
    part_id: str
    encoder: int
    deadline_ns: int
    recipe: RecipeId  # that was told to be active: under no other


@dataclass(frozen=True, slots=True)
class ChangeRecipe:
    """Load another recipe; answer with `recipe_changed`."""

    token: int  # names the request in the answer
    recipe: int


Action = StartInspection | ChangeRecipe


@dataclass(frozen=True, slots=True)
class Decided:
    """What the station found out about one part, as the journal has it."""

    token: int
    verdict: Verdict
    reason: Reason
    score: float
    inspection_ms: int
    journalled: bool
    recipe: RecipeId  # that it was inspected under


@dataclass(frozen=True, slots=True)
class StationState:
    """How the station is, by its own word."""

    ready: bool = False
    heartbeat: int = 0
    recipe: RecipeId = NO_RECIPE
    model_id: int = 0
    changing: bool = False  # another recipe is being loaded, whoever asked for it
    bypass: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """One trigger's part on its way to a result."""

    token: int
    trigger_seq: int
    part_id: str
    encoder: int
    deadline_ns: int
    recipe: RecipeId
    result: "_Result | None" = None


@dataclass(frozen=True, slots=True)
class _Result:
    outcome: Outcome
    reason: Reason
    score: float = 0.0
    inspection_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Change:
    """A request for another recipe that the station has."""

    token: int
    deadline_ns: int
    active: RecipeId | None = None  # the station's answer; its status has to say the same before it is passed on


@dataclass
class _Count:
    """Numbers that the PLC counts up from 1. One that is behind is the late word of a lost connection.

    0 is none: a PLC that counts anew holds it for longer than it may be silent. A 0 that a lost connection left behind
    does not last: the PLC that lives goes on saying its number.
    """

    last: int = 0
    zero_since_ns: int | None = None  # the number has been 0, and the PLC's heartbeat alive

    def look(self, number: int, now_ns: int, *, was_there: bool) -> None:
        """See whether the PLC is about to count anew."""
        if number != 0:
            self.zero_since_ns = None
        elif self.zero_since_ns is None or not was_there:
            self.zero_since_ns = now_ns
        elif now_ns - self.zero_since_ns > PLC_SILENT_NS:
            self.last = 0

    def is_new(self, number: int) -> bool:
        """Whether the PLC has counted on to this number; it is the last one then."""
        new = number != 0 and (self.last == 0 or 0 < self.ahead(number) <= MOST_AHEAD)
        self.last = number if new else self.last
        return new

    def ahead(self, number: int) -> int:
        """By how much a number is ahead of the last one."""
        return (number - self.last) % MOST_TRIGGERS


@dataclass
class Handshake:
    """One PLC and one station.

    Results are shown one at a time, in the order of their triggers, and stay until the PLC has acknowledged them. A
    result whose deadline comes first is shown at its deadline even so; the one before it was then never acknowledged
    and RESULT_OVERRUN says so.
    """

    boot_id: int
    own_deadline_ns: int
    _inputs: PlcInputs | None = None  # None: the PLC was not heard yet
    _plc_heard_ns: int | None = None  # when its heartbeat moved last; None: it was not heard since it was lost
    _station: StationState = field(default_factory=StationState)
    _station_heard_ns: int | None = None
    _under_way: deque[_Part] = field(default_factory=deque)
    _shown: _Part | None = None
    _acknowledged: bool = True
    _next_token: int = 1
    _triggers: _Count = field(default_factory=_Count)
    _missed: bool = False
    _overrun: bool = False
    _error: int = 0
    _recipe_requests: _Count = field(default_factory=_Count)
    _recipe_wanted: int | None = None  # asked for, and the station not yet
    _change: _Change | None = None
    _recipe_answered: bool = False  # the last request
    _recipe_told: RecipeId = NO_RECIPE
    _unread: int = 0  # heartbeats of the PLC until it has read which recipe is active
    _counters: Counters = field(default_factory=Counters)

    def plc_wrote(self, inputs: PlcInputs, now_ns: int) -> list[Action]:
        """The PLC's registers, whenever they were read or written, changed or not."""
        was_ready = self.is_ready(now_ns)  # as the PLC could know it when it wrote
        before, self._inputs = self._inputs, inputs
        if before is None:  # what stands in its registers when it is first seen was not asked of this station
            self._plc_heard_ns, self._triggers.last = now_ns, inputs.trigger_seq
            self._recipe_requests.last = inputs.recipe_request_seq
            return []
        was_there = self._plc_is_there(now_ns)
        if inputs.heartbeat != before.heartbeat:
            self._plc_heard_ns = now_ns
            if self._station.recipe == self._recipe_told:  # it stands in the registers
                self._unread = max(0, self._unread - 1)
        self._obey(inputs.command, before.command)
        self._take_acknowledgement(inputs)
        for count, number in self._counts(inputs):
            count.look(number, now_ns, was_there=was_there)
        actions = self._change_recipe(inputs, now_ns)
        if self._is_new_trigger(inputs.trigger_seq):
            actions += self._triggered(inputs, now_ns, ready=was_ready and self.is_ready(now_ns))
        self.tick(now_ns)
        return actions

    def plc_lost(self) -> None:
        """The connection to the PLC is lost: it is not there before its heartbeat moves again."""
        self._plc_heard_ns = None

    def station_said(self, state: StationState, now_ns: int) -> None:
        """The station's status, as its loop sends it."""
        if state.heartbeat != self._station.heartbeat or self._station_heard_ns is None:
            self._station_heard_ns = now_ns
        self._station = state
        if state.recipe not in {NO_RECIPE, self._recipe_told}:
            self._unread = EXCHANGES_TO_READ if self._recipe_told != NO_RECIPE else 0
            self._recipe_told = state.recipe
        self.tick(now_ns)

    def station_restarted(self, now_ns: int) -> None:
        """The inspecting process is another one: what the one before had under way is not inspected."""
        self._station, self._station_heard_ns = StationState(), None
        self._give_up(Reason.CAMERA)
        if self._change is not None:
            self._end_change(Refusal.NOT_ANSWERED)
        self.tick(now_ns)

    def decided(self, decision: Decided, now_ns: int) -> None:
        """A decision; one that is late, unknown or the second on its part changes nothing."""
        self.tick(now_ns)
        for index, part in enumerate(self._under_way):
            if part.token == decision.token and part.result is None:
                self._under_way[index] = replace(part, result=_result_of(decision, part.recipe))
        self.tick(now_ns)

    def recipe_changed(self, token: int, refusal: int, active: RecipeId, now_ns: int) -> None:
        """The answer to `ChangeRecipe`: a `Refusal`, and what is active now; to an older request it changes nothing."""
        if self._change is None or self._change.token != token:
            return
        if refusal:
            self._end_change(refusal)
        else:
            self._change = replace(self._change, active=active)
        self.tick(now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed: what is due is not inspected, and the next result is shown when it can be."""
        if self._change is not None and self._change.active == self._station.recipe and not self._station.changing:
            self._end_change(Refusal.NONE)
        elif self._change is not None and now_ns >= self._change.deadline_ns:
            self._end_change(Refusal.NOT_ANSWERED)
        for index, part in enumerate(self._under_way):
            if part.result is None and now_ns >= part.deadline_ns:
                self._under_way[index] = replace(part, result=_Result(Outcome.NOT_INSPECTED, Reason.TIMEOUT))
        while self._under_way and self._under_way[0].result is not None:
            due = now_ns >= self._under_way[0].deadline_ns
            if not self._acknowledged and not due:
                return
            self._overrun |= not self._acknowledged
            self._show(self._under_way.popleft())

    def outputs(self, now_ns: int) -> PlcOutputs:
        """The registers that the PLC is to read now."""
        part, inputs = self._shown, self._inputs or PlcInputs()
        result = part.result if part is not None else None
        return PlcOutputs(
            status=self._status(now_ns),
            heartbeat=self._station.heartbeat & 0xFFFF,
            plc_heartbeat=inputs.heartbeat,
            trigger_seq=inputs.trigger_seq,
            result_seq=part.trigger_seq if part is not None else 0,
            outcome=result.outcome if result is not None else Outcome.NONE,
            reason=result.reason if result is not None else Reason.NONE,
            score=result.score if result is not None else 0.0,
            inspection_ms=result.inspection_ms if result is not None else 0,
            recipe=self._station.recipe.number,
            recipe_revision=self._station.recipe.revision & 0xFFFF,
            model_id=self._station.model_id,
            queue_depth=len(self._under_way),
            part_id=part.part_id if part is not None else "",
            counters=self._counters,
            error_code=self._error,
            boot_id=self.boot_id,
            encoder=part.encoder if part is not None else 0,
        )

    def is_ready(self, now_ns: int) -> bool:
        """Whether a trigger now would be inspected."""
        command = self._inputs.command if self._inputs is not None else Command(0)
        return (
            self._plc_is_there(now_ns)
            and Command.ENABLE in command
            and not command & (Command.STOP | Command.ABORT)
            and self._station_is_there(now_ns)
            and self._station.ready
            and not self._is_changing()
            and not self._unread
            and len(self._under_way) < MOST_UNDER_WAY
        )

    def _obey(self, command: Command, before: Command) -> None:
        new = command & ~before
        if Command.ABORT in new:
            self._give_up(Reason.ABORTED)
        if Command.ERROR_RESET in new:
            self._error, self._missed, self._overrun = 0, False, False
        if Command.COUNTER_RESET in new:
            self._counters = Counters()

    def _take_acknowledgement(self, inputs: PlcInputs) -> None:
        if self._shown is not None and inputs.result_ack_seq == self._shown.trigger_seq:
            self._acknowledged = True

    def _counts(self, inputs: PlcInputs) -> tuple[tuple[_Count, int], ...]:
        return (self._triggers, inputs.trigger_seq), (self._recipe_requests, inputs.recipe_request_seq)

    def _is_new_trigger(self, sequence: int) -> bool:
        last = self._triggers.last
        self._missed |= bool(last and sequence and self._triggers.ahead(sequence) > MOST_AHEAD)
        is_new = self._triggers.is_new(sequence)
        self._missed |= bool(is_new and last and sequence not in {1, last % MOST_TRIGGERS + 1})
        return is_new

    def _change_recipe(self, inputs: PlcInputs, now_ns: int) -> list[Action]:
        """Take a request; the station gets one at a time, the last one when the one before it is answered."""
        if self._recipe_requests.is_new(inputs.recipe_request_seq):
            self._recipe_wanted, self._recipe_answered = inputs.recipe_request, False
        if self._recipe_wanted is None or self._change is not None:
            return []
        wanted, self._recipe_wanted = self._recipe_wanted, None
        self._change = _Change(self._next_token, now_ns + CHANGEOVER_NS)
        self._next_token += 1
        return [ChangeRecipe(self._change.token, wanted)]

    def _end_change(self, refusal: int) -> None:
        self._change, self._error = None, refusal
        self._recipe_answered = self._recipe_wanted is None

    def _is_changing(self) -> bool:
        return self._change is not None or self._recipe_wanted is not None or self._station.changing

    def _triggered(self, inputs: PlcInputs, now_ns: int, *, ready: bool) -> list[Action]:
        deadline_ns = now_ns + (inputs.deadline_ms * 1_000_000 or self.own_deadline_ns)
        recipe, part_id = self._station.recipe, inputs.part_id[:ID_LENGTH]
        part = _Part(self._next_token, inputs.trigger_seq, part_id, inputs.encoder, deadline_ns, recipe)
        self._next_token += 1
        self._hurry(deadline_ns)
        if ready:
            self._under_way.append(part)
            return [StartInspection(part.token, part.part_id, part.encoder, deadline_ns, recipe)]
        full = len(self._under_way) >= MOST_UNDER_WAY
        refused = _Result(Outcome.NOT_INSPECTED, Reason.OVERRUN if full else Reason.STALE_TRIGGER)
        self._under_way.append(replace(part, result=refused))
        return []

    def _hurry(self, deadline_ns: int) -> None:
        """What is ahead on the belt is due no later than what comes behind it."""
        self._under_way = deque(
            replace(part, deadline_ns=min(part.deadline_ns, deadline_ns)) for part in self._under_way
        )

    def _give_up(self, reason: Reason) -> None:
        """Nothing that is under way will be inspected any more."""
        given_up = _Result(Outcome.NOT_INSPECTED, reason)
        self._under_way = deque(
            part if part.result is not None else replace(part, result=given_up) for part in self._under_way
        )

    def _show(self, part: _Part) -> None:
        self._shown, self._acknowledged = part, False
        outcome = part.result.outcome if part.result is not None else Outcome.NOT_INSPECTED
        self._counters = Counters(
            self._counters.total + 1,
            self._counters.ng + (outcome is Outcome.NG),
            self._counters.not_inspected + (outcome is Outcome.NOT_INSPECTED),
        )

    def _status(self, now_ns: int) -> StatusBit:
        result = self._shown.result if self._shown is not None else None
        valid = result is not None and not self._acknowledged
        bits = {
            StatusBit.READY: self.is_ready(now_ns),
            StatusBit.BUSY: bool(self._under_way),
            StatusBit.TRIGGER_ACK: self._inputs is not None and self._inputs.trigger_seq != 0,
            StatusBit.RESULT_VALID: valid,
            StatusBit.OK: valid and result is not None and result.outcome is Outcome.OK,
            StatusBit.NG: valid and result is not None and result.outcome is not Outcome.OK,
            StatusBit.ERROR: self._error != 0,
            StatusBit.RECIPE_ACK: self._recipe_answered,
            StatusBit.RECIPE_ACTIVE: self._station.recipe != NO_RECIPE,
            StatusBit.CHANGEOVER_BUSY: self._is_changing(),
            StatusBit.ONLINE: self._station_is_there(now_ns),
            StatusBit.BYPASS: self._station.bypass,
            StatusBit.RESULT_OVERRUN: self._overrun,
            StatusBit.TRIGGER_MISSED: self._missed,
            StatusBit.PLC_HEARTBEAT_LOST: not self._plc_is_there(now_ns),
        }
        status = StatusBit(0)
        for bit, is_set in bits.items():
            status |= bit if is_set else StatusBit(0)
        return status

    def _plc_is_there(self, now_ns: int) -> bool:
        return self._plc_heard_ns is not None and now_ns - self._plc_heard_ns <= PLC_SILENT_NS

    def _station_is_there(self, now_ns: int) -> bool:
        return self._station_heard_ns is not None and now_ns - self._station_heard_ns <= STATION_SILENT_NS


def _result_of(decision: Decided, recipe: RecipeId) -> _Result:
    """OK needs an accept in the journal, under the recipe that the part was triggered for; everything else is none.

    A fault's own reason is the true one.
    """
    outcome, reason = Outcome.NOT_INSPECTED, decision.reason
    if decision.verdict is not Verdict.FAULT and not decision.journalled:
        reason = Reason.NOT_JOURNALLED
    elif decision.verdict is not Verdict.FAULT and decision.recipe != recipe:
        reason = Reason.NO_RECIPE
    elif decision.verdict is Verdict.ACCEPT:
        outcome, reason = Outcome.OK, Reason.NONE
    elif decision.verdict is Verdict.REJECT:
        outcome = Outcome.NG
    return _Result(outcome, reason, decision.score, decision.inspection_ms)
