"""The handshake under any interleaving of PLC, station, time and faults: what it must never do, it never does."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from inspector.inspection import NO_RECIPE, RecipeId, Refusal, Verdict
from inspector.plc import Command, Outcome, PlcInputs, Reason, StatusBit
from inspector.plc.handshake import (
    CHANGEOVER_NS,
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
RECIPE, OTHER = RecipeId(1, 1), RecipeId(5, 3)
RECIPES = [RECIPE, RecipeId(1, 2), RecipeId(2, 1)]
OWN_DEADLINE_NS = 500 * MS


@dataclass
class Line:
    """A PLC and a station around the handshake, with what really happened written down."""

    handshake: Handshake = field(default_factory=lambda: Handshake(boot_id=7, own_deadline_ns=OWN_DEADLINE_NS))
    now_ns: int = 1_000_000_000_000
    inputs: PlcInputs = field(default_factory=lambda: PlcInputs(command=Command.ENABLE))
    station: StationState = field(default_factory=lambda: StationState(ready=True, recipe=RECIPE))
    read: RecipeId = RECIPE  # in the registers, where one was named
    wrote_under: RecipeId = RECIPE  # what was read before the last write

    def __post_init__(self) -> None:
        self.plc()
        self.alive()

    def plc(self, **changes: object) -> list[Action]:
        """The PLC writes, knowing what it has read after it wrote last; and its heartbeat moves."""
        self.inputs = replace(self.inputs, heartbeat=(self.inputs.heartbeat + 1) & 0xFFFF, **changes)  # type: ignore[arg-type]
        actions = self.handshake.plc_wrote(self.inputs, self.now_ns)
        outputs = self.handshake.outputs(self.now_ns)
        self.wrote_under = self.read
        if outputs.recipe:
            self.read = RecipeId(outputs.recipe, outputs.recipe_revision)
        return actions

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

    def decide(
        self, token: int, verdict: Verdict = Verdict.ACCEPT, *, journalled: bool = True, recipe: RecipeId = RECIPE
    ) -> None:
        reason = Reason.NONE if verdict is Verdict.ACCEPT else Reason.OVER_THRESHOLD
        self.handshake.decided(Decided(token, verdict, reason, 0.5, 12, journalled, recipe), self.now_ns)

    def ask(self, recipe: int) -> list[Action]:
        """The PLC asks for another recipe."""
        return self.plc(recipe_request=recipe, recipe_request_seq=self.inputs.recipe_request_seq % 0xFFFF + 1)

    def answer(self, token: int, refusal: int = 0, active: RecipeId = RECIPE) -> None:
        self.handshake.recipe_changed(token, refusal, active, self.now_ns)

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
    assert start == [StartInspection(1, "P-1", 1234, line.now_ns + OWN_DEADLINE_NS, RECIPE)]
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
        (Verdict.REJECT, False, (Outcome.NOT_INSPECTED, Reason.NOT_JOURNALLED)),
        (Verdict.FAULT, True, (Outcome.NOT_INSPECTED, Reason.OVER_THRESHOLD)),
        (Verdict.FAULT, False, (Outcome.NOT_INSPECTED, Reason.OVER_THRESHOLD)),  # its own reason, whatever it is
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


def test_a_plc_that_counts_anew_holds_zero_first(line: Line) -> None:
    line.plc(trigger_seq=700)
    assert line.plc(trigger_seq=1) == []
    assert StatusBit.TRIGGER_MISSED in line.status
    line.plc(trigger_seq=0)
    line.wait(PLC_SILENT_NS / MS + 20)
    assert line.plc(trigger_seq=1) != []


def test_two_lost_connections_words_in_a_row_are_no_trigger(line: Line) -> None:
    """A 0, and a number of before: as if the PLC counted anew."""
    for name in "ABC":
        assert line.trigger(name)
    for old in (1, 2, 3):
        line.plc(trigger_seq=0, part_id="")
        line.plc(trigger_seq=0, part_id="")
        assert line.plc(trigger_seq=old, part_id="A") == []
    assert line.plc(trigger_seq=3, part_id="C") == []  # the PLC goes on saying how it is
    assert line.plc(trigger_seq=4, part_id="D") != []


def test_zeros_of_lost_connections_far_apart_are_no_zero_that_is_held(line: Line) -> None:
    for name in "AB":
        line.trigger(name)
    line.plc(trigger_seq=0, part_id="")
    line.now_ns += PLC_SILENT_NS + 1
    line.plc(trigger_seq=0, part_id="")
    line.alive()
    assert line.plc(trigger_seq=1, part_id="A") == []


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
    assert line.ask(5) == [ChangeRecipe(1, 5)]
    assert line.status & (StatusBit.CHANGEOVER_BUSY | StatusBit.RECIPE_ACK | StatusBit.READY) is (
        StatusBit.CHANGEOVER_BUSY
    )
    line.answer(1, active=OTHER)
    assert StatusBit.CHANGEOVER_BUSY in line.status  # the registers still name the old one
    line.alive(recipe=OTHER)
    assert StatusBit.RECIPE_ACK in line.status
    assert StatusBit.CHANGEOVER_BUSY not in line.status
    assert line.handshake.outputs(line.now_ns).recipe == 5
    assert line.handshake.outputs(line.now_ns).recipe_revision == 3


def test_ready_comes_back_once_the_plc_has_read_which_recipe_is_active(line: Line) -> None:
    line.alive(recipe=OTHER)  # somebody else has asked for it
    line.plc()  # written before it was read
    assert StatusBit.READY not in line.status
    assert line.trigger() == []
    assert StatusBit.READY in line.status
    assert isinstance(line.trigger()[0], StartInspection)


def test_a_recipe_that_is_refused_is_an_error_and_ready_comes_back_with_the_old_one(line: Line) -> None:
    line.ask(9)
    line.answer(1, Refusal.BUNDLE)
    assert StatusBit.ERROR | StatusBit.RECIPE_ACK | StatusBit.READY in line.status
    assert line.handshake.outputs(line.now_ns).error_code == Refusal.BUNDLE
    assert line.handshake.outputs(line.now_ns).recipe == RECIPE.number
    line.plc(command=Command.ENABLE | Command.ERROR_RESET)
    assert StatusBit.ERROR not in line.status


def test_a_request_that_is_never_answered_is_refused_after_a_while_and_its_late_answer_changes_nothing(
    line: Line,
) -> None:
    line.ask(5)
    line.wait(CHANGEOVER_NS / MS - 10)
    assert StatusBit.CHANGEOVER_BUSY in line.status
    line.wait(10)
    assert line.handshake.outputs(line.now_ns).error_code == Refusal.NOT_ANSWERED
    assert line.ask(6) == [ChangeRecipe(2, 6)]
    line.answer(1, Refusal.BUNDLE)
    assert StatusBit.CHANGEOVER_BUSY in line.status
    assert StatusBit.RECIPE_ACK not in line.status


def test_a_station_that_restarts_amid_a_changeover_does_not_answer_it(line: Line) -> None:
    line.ask(5)
    line.handshake.station_restarted(line.now_ns)
    line.alive()
    assert line.handshake.outputs(line.now_ns).error_code == Refusal.NOT_ANSWERED
    assert StatusBit.READY in line.status


def test_a_request_number_that_comes_again_is_no_request(line: Line) -> None:
    line.ask(5)
    line.answer(1, Refusal.BUNDLE)
    assert line.plc() == []
    assert line.ask(6) == [ChangeRecipe(2, 6)]
    line.answer(2, Refusal.BUNDLE)
    late = line.plc(recipe_request=5, recipe_request_seq=1)  # the word of a connection that was lost
    assert late == []
    assert line.plc(recipe_request=6, recipe_request_seq=2) == []


def test_a_request_during_another_waits_for_its_answer_and_the_last_one_counts(line: Line) -> None:
    line.ask(5)
    assert line.ask(6) == []
    assert line.ask(7) == []
    line.answer(1, active=OTHER)
    line.alive(recipe=OTHER)
    assert StatusBit.RECIPE_ACK not in line.status
    assert line.plc() == [ChangeRecipe(2, 7)]


def test_what_stands_in_the_registers_at_the_start_asks_for_no_recipe() -> None:
    line = Line(inputs=PlcInputs(command=Command.ENABLE, recipe_request=5, recipe_request_seq=41))
    assert line.plc() == []
    assert StatusBit.CHANGEOVER_BUSY not in line.status
    assert line.ask(5) == [ChangeRecipe(1, 5)]


@pytest.mark.parametrize("recipe", [OTHER, RecipeId(1, 2), NO_RECIPE])
@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.REJECT])
def test_a_part_that_was_inspected_under_another_recipe_is_not_inspected(
    line: Line, verdict: Verdict, recipe: RecipeId
) -> None:
    line.trigger()
    line.alive(recipe=recipe)
    line.decide(1, verdict, recipe=recipe)
    assert line.result[1:3] == (Outcome.NOT_INSPECTED, Reason.NO_RECIPE)


def test_a_part_that_was_triggered_before_a_changeover_is_finished_under_its_recipe(line: Line) -> None:
    line.trigger()
    line.ask(5)
    line.decide(1)
    assert line.result[1] is Outcome.OK


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
        self.recipe_of: dict[int, RecipeId] = {}  # that the PLC was told of when it triggered
        self.asked: list[int] = []  # tokens of requests for a recipe
        self.plc_lives()

    @rule()
    def plc_lives(self) -> None:
        self.take(self.line.plc())

    def take(self, actions: list[Action]) -> None:
        """What the station is asked, besides parts."""
        self.asked += [action.token for action in actions if isinstance(action, ChangeRecipe)]

    @rule(target=tokens, deadline_ms=st.sampled_from([0, 20, 100, 1000]), enable=st.booleans())
    def trigger(self, deadline_ms: int, enable: bool) -> object:
        ready = StatusBit.READY in self.line.status
        command = Command.ENABLE if enable else Command(0)
        found = self.line.trigger(f"P{len(self.triggers)}", deadline_ms=deadline_ms, command=command)
        self.take(found)
        actions = [action for action in found if isinstance(action, StartInspection)]
        seq = self.line.inputs.trigger_seq
        self.triggers.append(seq)
        due_ns = self.line.now_ns + (deadline_ms * MS or OWN_DEADLINE_NS)
        ahead = [number for number in self.triggers if self.line.now_ns < self.deadline_of.get(number, due_ns)]
        self.deadline_of |= {number: min(self.deadline_of.get(number, due_ns), due_ns) for number in ahead}
        if not actions:
            return multiple()
        assert ready
        self.token_of[seq] = actions[0].token
        self.recipe_of[actions[0].token] = self.line.wrote_under
        assert actions[0].recipe == self.line.wrote_under
        return actions[0].token

    @rule(
        token=tokens,
        verdict=st.sampled_from(list(Verdict)),
        journalled=st.booleans(),
        recipe=st.sampled_from([RECIPE, RECIPE, *RECIPES]),
    )
    def decide(self, token: int, verdict: Verdict, journalled: bool, recipe: RecipeId) -> None:
        if verdict is Verdict.ACCEPT and journalled and recipe == self.recipe_of[token]:
            self.accepted.setdefault(token, self.line.now_ns)
        self.line.decide(token, verdict, journalled=journalled, recipe=recipe)

    @rule(milliseconds=st.sampled_from([1, 10, 50, 400]))
    def time_passes(self, milliseconds: int) -> None:
        self.line.now_ns += milliseconds * MS
        self.line.handshake.tick(self.line.now_ns)

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

    @rule(number=st.integers(1, 3), again=st.booleans())
    def asks_for_a_recipe(self, number: int, again: bool) -> None:
        """With a number that has been used already, it asks for nothing."""
        if again:
            self.take(self.line.plc(recipe_request=number))
        else:
            self.take(self.line.ask(number))
            assert StatusBit.READY not in self.line.status
            assert StatusBit.RECIPE_ACK not in self.line.status

    @rule(recipe=st.sampled_from(RECIPES))
    def the_recipe_becomes_another(self, recipe: RecipeId) -> None:
        self.line.alive(ready=True, changing=False, recipe=recipe)

    @rule()
    def a_recipe_is_being_loaded(self) -> None:
        """Somebody else has asked for it."""
        self.line.alive(ready=False, changing=True)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), refusal=st.sampled_from([0, 0, Refusal.ENGINE]), recipe=st.sampled_from(RECIPES))
    def the_request_is_answered(self, data: st.DataObject, refusal: int, recipe: RecipeId) -> None:
        """Or an older one, or the same once more, or none ever."""
        self.line.answer(data.draw(st.sampled_from(self.asked[-3:])), refusal, recipe)

    @invariant()
    def the_registers_name_the_stations_recipe(self) -> None:
        outputs = self.line.handshake.outputs(self.line.now_ns)
        if StatusBit.READY in outputs.status:
            assert RecipeId(outputs.recipe, outputs.recipe_revision) == self.line.station.recipe
            assert not self.line.station.changing

    @rule()
    def reset(self) -> None:
        self.line.plc(command=Command.ENABLE | Command.ERROR_RESET)

    @invariant()
    def results_are_what_they_must_be(self) -> None:
        outputs = self.line.handshake.outputs(self.line.now_ns)
        if outputs.result_seq and outputs.result_seq not in self.answered:
            self._account_for(outputs.result_seq)
        if StatusBit.OK in outputs.status or outputs.outcome is Outcome.OK:  # under the recipe that the PLC had read
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
