"""The handshake under any interleaving of PLC, station, time and faults: what it must never do, it never does."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from inspector.inspection import Verdict
from inspector.plc import Command, Outcome, PlcInputs, Reason, StatusBit
from inspector.plc.handshake import (
    MOST_UNDER_WAY,
    PLC_SILENT_NS,
    STATION_SILENT_NS,
    Action,
    ChangeRecipe,
    Decided,
    Handshake,
    StartInspection,
    StationState,
)

MS = 1_000_000
OWN_DEADLINE_NS = 500 * MS


@dataclass
class Line:
    """A PLC and a station around the handshake, with what really happened written down."""

    handshake: Handshake = field(default_factory=lambda: Handshake(boot_id=7, own_deadline_ns=OWN_DEADLINE_NS))
    now_ns: int = 1_000_000_000_000
    inputs: PlcInputs = field(default_factory=lambda: PlcInputs(command=Command.ENABLE))
    station: StationState = field(default_factory=lambda: StationState(ready=True, recipe=1))

    def __post_init__(self) -> None:
        self.plc()
        self.alive()

    def plc(self, **changes: object) -> list[Action]:
        """The PLC writes, and its heartbeat moves."""
        self.inputs = replace(self.inputs, heartbeat=(self.inputs.heartbeat + 1) & 0xFFFF, **changes)  # type: ignore[arg-type]
        return self.handshake.plc_wrote(self.inputs, self.now_ns)

    def alive(self, **changes: object) -> None:
        """The station's loop says how it is."""
        self.station = replace(self.station, heartbeat=self.station.heartbeat + 1, **changes)  # type: ignore[arg-type]
        self.handshake.station_said(self.station, self.now_ns)

    def wait(self, milliseconds: float) -> None:
        """Time passes, and both are alive all the while."""
        for _ in range(round(milliseconds / 10)):
            self.now_ns += 10 * MS
            self.plc()
            self.alive()

    def trigger(self, part_id: str = "A", **changes: object) -> list[Action]:
        return self.plc(trigger_seq=self.inputs.trigger_seq % 0xFFFF + 1, part_id=part_id, **changes)

    def decide(self, token: int, verdict: Verdict = Verdict.ACCEPT, *, journalled: bool = True) -> None:
        reason = Reason.NONE if verdict is Verdict.ACCEPT else Reason.OVER_THRESHOLD
        self.handshake.decided(Decided(token, verdict, reason, 0.5, 12, journalled), self.now_ns)

    @property
    def status(self) -> StatusBit:
        return self.handshake.outputs(self.now_ns).status

    @property
    def result(self) -> tuple[int, Outcome, Reason, str]:
        found = self.handshake.outputs(self.now_ns)
        return found.result_seq, found.outcome, found.reason, found.part_id


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_part_is_triggered_inspected_shown_and_acknowledged(line: Line) -> None:
    assert StatusBit.READY in line.status
    start = line.trigger("P-1", encoder=1234)
    assert start == [StartInspection(1, "P-1", 1234, line.now_ns + OWN_DEADLINE_NS)]
    assert StatusBit.BUSY in line.status
    line.decide(1)
    assert line.result == (1, Outcome.OK, Reason.NONE, "P-1")
    assert StatusBit.RESULT_VALID | StatusBit.OK in line.status
    assert line.handshake.outputs(line.now_ns).encoder == 1234
    line.plc(result_ack_seq=1)
    assert not line.status & (StatusBit.RESULT_VALID | StatusBit.OK | StatusBit.BUSY)


@pytest.mark.parametrize(
    ("verdict", "journalled", "shown"),
    [
        (Verdict.ACCEPT, True, (Outcome.OK, Reason.NONE)),
        (Verdict.ACCEPT, False, (Outcome.NOT_INSPECTED, Reason.NOT_JOURNALLED)),
        (Verdict.REJECT, True, (Outcome.NG, Reason.OVER_THRESHOLD)),
        (Verdict.FAULT, True, (Outcome.NOT_INSPECTED, Reason.OVER_THRESHOLD)),
    ],
)
def test_only_a_journalled_accept_is_ok(
    line: Line, verdict: Verdict, journalled: bool, shown: tuple[Outcome, Reason]
) -> None:
    line.trigger()
    line.decide(1, verdict, journalled=journalled)
    assert line.result[1:3] == shown
    assert (StatusBit.OK in line.status) == (shown[0] is Outcome.OK)
    assert (StatusBit.NG in line.status) == (shown[0] is not Outcome.OK)


def test_a_late_decision_is_not_inspected_at_the_deadline(line: Line) -> None:
    line.trigger(deadline_ms=100)
    line.wait(90)
    assert line.result[1] is Outcome.NONE
    line.wait(10)
    assert line.result[1:3] == (Outcome.NOT_INSPECTED, Reason.TIMEOUT)
    line.decide(1)
    assert line.result[1:3] == (Outcome.NOT_INSPECTED, Reason.TIMEOUT)


def test_what_stands_in_the_registers_at_the_start_is_no_trigger() -> None:
    line = Line(inputs=PlcInputs(command=Command.ENABLE, trigger_seq=41, part_id="old"))
    assert line.result[0] == 0
    assert line.plc() == []
    assert isinstance(line.trigger("new")[0], StartInspection)


def test_results_come_in_the_order_of_their_triggers(line: Line) -> None:
    for name in "ABC":
        line.trigger(name)
    line.decide(3)
    line.decide(2, Verdict.REJECT)
    assert line.result[0] == 0
    line.decide(1)
    seen = []
    for seq in (1, 2, 3):
        seen.append(line.result)
        line.plc(result_ack_seq=seq)
    assert seen == [
        (1, Outcome.OK, Reason.NONE, "A"),
        (2, Outcome.NG, Reason.OVER_THRESHOLD, "B"),
        (3, Outcome.OK, Reason.NONE, "C"),
    ]


def test_a_result_that_is_not_acknowledged_makes_way_at_the_next_ones_deadline(line: Line) -> None:
    line.trigger("A")
    line.decide(1)
    line.wait(100)
    line.trigger("B")
    line.decide(2, Verdict.REJECT)
    line.wait(490)
    assert line.result[0] == 1
    line.wait(20)
    assert line.result == (2, Outcome.NG, Reason.OVER_THRESHOLD, "B")
    assert StatusBit.RESULT_OVERRUN in line.status
    line.plc(command=Command.ENABLE | Command.ERROR_RESET)
    assert StatusBit.RESULT_OVERRUN not in line.status


def test_a_trigger_that_is_found_when_the_connection_is_back_is_not_inspected(line: Line) -> None:
    line.handshake.plc_lost()
    assert StatusBit.READY not in line.status
    assert StatusBit.PLC_HEARTBEAT_LOST in line.status
    assert line.trigger("P-1") == []  # with a heartbeat that has moved, too
    assert line.result[1:] == (Outcome.NOT_INSPECTED, Reason.STALE_TRIGGER, "P-1")
    assert StatusBit.READY in line.status
    assert isinstance(line.trigger("P-2")[0], StartInspection)


def test_a_plc_that_stands_still_is_not_there_when_the_connection_is_back(line: Line) -> None:
    line.handshake.plc_lost()
    line.handshake.plc_wrote(line.inputs, line.now_ns)
    assert StatusBit.READY not in line.status


@pytest.mark.parametrize("why", ["disabled", "stopped", "station not ready", "station silent", "plc silent"])
def test_a_trigger_while_not_ready_is_answered_and_never_inspected(line: Line, why: str) -> None:
    if why == "disabled":
        line.plc(command=Command(0))
    elif why == "stopped":
        line.plc(command=Command.ENABLE | Command.STOP)
    elif why == "station not ready":
        line.alive(ready=False)
    elif why == "station silent":
        line.now_ns += STATION_SILENT_NS + MS
        line.plc()
    else:
        line.now_ns += PLC_SILENT_NS + MS
        line.alive()
    assert StatusBit.READY not in line.status
    assert line.trigger("P") == []
    assert line.result == (1, Outcome.NOT_INSPECTED, Reason.STALE_TRIGGER, "P")


def test_more_parts_than_can_be_under_way_are_refused(line: Line) -> None:
    for _ in range(MOST_UNDER_WAY):
        assert line.trigger()
    assert StatusBit.READY not in line.status
    assert line.trigger("too many") == []
    for token in range(1, MOST_UNDER_WAY + 1):
        line.decide(token)
        line.plc(result_ack_seq=token)
    assert line.result == (MOST_UNDER_WAY + 1, Outcome.NOT_INSPECTED, Reason.OVERRUN, "too many")


def test_a_trigger_that_was_overwritten_is_told(line: Line) -> None:
    line.trigger()
    line.plc(trigger_seq=4)
    assert StatusBit.TRIGGER_MISSED in line.status


def test_a_number_that_comes_again_is_no_trigger(line: Line) -> None:
    for name in "AB":
        assert line.trigger(name)
    assert line.plc(trigger_seq=1, part_id="A") == []  # the late word of a connection that was lost
    assert line.plc(trigger_seq=2, part_id="B") == []  # the PLC goes on saying how it is
    assert line.plc(trigger_seq=3, part_id="C") != []


def test_a_plc_that_counts_anew_says_zero_first(line: Line) -> None:
    line.plc(trigger_seq=700)
    assert line.plc(trigger_seq=1) == []
    assert StatusBit.TRIGGER_MISSED in line.status
    line.plc(trigger_seq=0)
    assert line.plc(trigger_seq=1) != []


def test_the_sequence_begins_again_with_one() -> None:
    line = Line(inputs=PlcInputs(command=Command.ENABLE, trigger_seq=65534))
    line.trigger()
    line.trigger()
    assert line.inputs.trigger_seq == 1
    assert StatusBit.TRIGGER_MISSED not in line.status


def test_abort_gives_up_what_is_under_way(line: Line) -> None:
    line.trigger()
    line.plc(command=Command.ENABLE | Command.ABORT)
    line.decide(1)
    assert line.result[1:3] == (Outcome.NOT_INSPECTED, Reason.ABORTED)


def test_a_station_that_restarts_inspects_nothing_of_before(line: Line) -> None:
    line.trigger()
    line.handshake.station_restarted(line.now_ns)
    line.decide(1)
    assert line.result[1] is Outcome.NOT_INSPECTED
    assert StatusBit.READY not in line.status


def test_a_recipe_is_changed_and_answered(line: Line) -> None:
    assert line.plc(recipe_request=5, recipe_request_seq=1) == [ChangeRecipe(5)]
    assert StatusBit.CHANGEOVER_BUSY in line.status
    assert StatusBit.READY not in line.status
    line.handshake.recipe_changed(0)
    line.alive(recipe=5)
    assert StatusBit.RECIPE_ACK | StatusBit.READY in line.status


def test_a_recipe_that_cannot_be_loaded_is_an_error_until_it_is_reset(line: Line) -> None:
    line.plc(recipe_request=9, recipe_request_seq=1)
    line.handshake.recipe_changed(17)
    assert StatusBit.ERROR in line.status
    assert line.handshake.outputs(line.now_ns).error_code == 17
    assert StatusBit.READY not in line.status
    line.plc(command=Command.ENABLE | Command.ERROR_RESET)
    assert StatusBit.READY in line.status


def test_counters_count_and_are_reset(line: Line) -> None:
    for verdict in (Verdict.ACCEPT, Verdict.REJECT, Verdict.FAULT):
        line.trigger()
        line.decide(line.inputs.trigger_seq, verdict)
        line.plc(result_ack_seq=line.inputs.trigger_seq)
    counters = line.handshake.outputs(line.now_ns).counters
    assert (counters.total, counters.ng, counters.not_inspected) == (3, 1, 1)
    line.plc(command=Command.ENABLE | Command.COUNTER_RESET)
    assert line.handshake.outputs(line.now_ns).counters.total == 0


class AnyInterleaving(RuleBasedStateMachine):
    """PLC, station and time do what they like; a model beside them knows what may be shown."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.triggers: list[int] = []  # sequence numbers, in order
        self.answered: list[int] = []  # as shown, in order
        self.token_of: dict[int, int] = {}
        self.deadline_of: dict[int, int] = {}
        self.accepted: dict[int, int] = {}  # journalled accepts by token, and when
        self.given_up: set[int] = set()
        self.shown = 0

    @rule(target=tokens, deadline_ms=st.sampled_from([0, 20, 100, 1000]), enable=st.booleans())
    def trigger(self, deadline_ms: int, enable: bool) -> object:
        ready = StatusBit.READY in self.line.status
        command = Command.ENABLE if enable else Command(0)
        actions = self.line.trigger(f"P{len(self.triggers)}", deadline_ms=deadline_ms, command=command)
        seq = self.line.inputs.trigger_seq
        self.triggers.append(seq)
        due_ns = self.line.now_ns + (deadline_ms * MS or OWN_DEADLINE_NS)
        ahead = [number for number in self.triggers if self.line.now_ns < self.deadline_of.get(number, due_ns)]
        self.deadline_of |= {number: min(self.deadline_of.get(number, due_ns), due_ns) for number in ahead}
        if not actions:
            return multiple()
        assert ready
        assert isinstance(actions[0], StartInspection)
        self.token_of[seq] = actions[0].token
        return actions[0].token

    @rule(token=tokens, verdict=st.sampled_from(list(Verdict)), journalled=st.booleans())
    def decide(self, token: int, verdict: Verdict, journalled: bool) -> None:
        if verdict is Verdict.ACCEPT and journalled:
            self.accepted.setdefault(token, self.line.now_ns)
        self.line.decide(token, verdict, journalled=journalled)

    @rule(milliseconds=st.sampled_from([1, 10, 50, 400]))
    def time_passes(self, milliseconds: int) -> None:
        self.line.now_ns += milliseconds * MS
        self.line.handshake.tick(self.line.now_ns)

    @rule()
    def plc_lives(self) -> None:
        self.line.plc()

    @rule()
    def connection_is_lost(self) -> None:
        self.line.handshake.plc_lost()
        assert StatusBit.READY not in self.line.status

    @rule(ready=st.booleans())
    def station_lives(self, ready: bool) -> None:
        self.line.alive(ready=ready)

    @rule()
    def acknowledge(self) -> None:
        self.line.plc(result_ack_seq=self.line.result[0])

    @rule()
    def acknowledge_something_else(self) -> None:
        self.line.plc(result_ack_seq=60_000)

    @rule()
    def abort(self) -> None:
        self.line.plc(command=Command.ENABLE | Command.ABORT)
        self.line.plc(command=Command.ENABLE)
        self.given_up |= {token for seq, token in self.token_of.items() if seq not in self.answered}

    @rule()
    def station_restarts(self) -> None:
        self.line.handshake.station_restarted(self.line.now_ns)

    @precondition(lambda self: self.line.inputs.recipe_request_seq < 1000)
    @rule(error=st.sampled_from([0, 0, 3]))
    def recipe(self, error: int) -> None:
        self.line.plc(recipe_request=2, recipe_request_seq=self.line.inputs.recipe_request_seq + 1)
        assert StatusBit.READY not in self.line.status
        self.line.handshake.recipe_changed(error)

    @rule()
    def reset(self) -> None:
        self.line.plc(command=Command.ENABLE | Command.ERROR_RESET)

    @invariant()
    def results_are_what_they_must_be(self) -> None:
        outputs = self.line.handshake.outputs(self.line.now_ns)
        if outputs.result_seq and outputs.result_seq not in self.answered:
            self._account_for(outputs.result_seq)
        if StatusBit.OK in outputs.status or outputs.outcome is Outcome.OK:
            token = self.token_of[outputs.result_seq]
            assert token in self.accepted
            assert self.accepted[token] < self.deadline_of[outputs.result_seq]
            assert outputs.part_id == f"P{outputs.result_seq - 1}"
        assert not (StatusBit.OK in outputs.status and StatusBit.NG in outputs.status)

    @invariant()
    def nothing_is_overdue(self) -> None:
        """What is due has been shown: its number is at or before the one shown last."""
        due = [seq for seq in self.triggers if self.deadline_of[seq] <= self.line.now_ns]
        shown = self.line.handshake.outputs(self.line.now_ns).result_seq
        assert all(seq <= shown for seq in due)

    @invariant()
    def ready_only_when_both_are_there(self) -> None:
        if StatusBit.READY in self.line.status:
            assert self.line.station.ready
            assert Command.ENABLE in self.line.inputs.command

    def _account_for(self, seq: int) -> None:
        """Results are shown in order; several may have become due between two looks of this model."""
        skipped = [number for number in self.triggers if number not in self.answered and number < seq]
        self.answered += [*skipped, seq]
        assert self.answered == self.triggers[: len(self.answered)]


AnyInterleaving.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase
