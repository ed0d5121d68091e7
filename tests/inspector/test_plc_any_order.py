"""Handshake and PLC together under any interleaving of parts, decisions, restarts and a bad wire."""

from collections import deque
from collections.abc import Callable, Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inspector.inspection import RecipeId, Refusal, Verdict
from inspector.plc.twin import A_MANY_REJECTS, A_NOT_CONFIRMED, T_DATA_SENT, T_SEQ_SENT

from .belt import Belt, DirectLine, FakeStation, Shot, at_once, parts, seeded, verdict_of


def never(_: Shot) -> Iterator[tuple[int, Verdict, bool]]:
    """It decides when the test says so."""
    return iter(())


def slowly(shot: Shot) -> Iterator[tuple[int, Verdict, bool]]:
    """The next part is triggered meanwhile."""
    yield 120, verdict_of(shot), True


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.belt = Belt(deque(parts(seeded(3), 1000, good=0.5)))
        self.station = FakeStation(self.belt, at_once)
        self.line = DirectLine(self.belt, self.station)
        self.line.scans(12)

    @rule(number=st.sampled_from([1, 1, 2, 4, 9, 25]))
    def scans(self, number: int) -> None:
        self.line.scans(number)

    @precondition(lambda self: self.station.shots)
    @rule(data=st.data(), journalled=st.sampled_from([True, True, False]))
    def decides(self, data: st.DataObject, journalled: bool) -> None:
        shot = data.draw(st.sampled_from(self.station.shots[-6:]))
        self.station.say(shot, verdict_of(shot), journalled=journalled)

    @rule(late=st.integers(1, 12))
    def a_trigger_is_late(self, late: int) -> None:
        self.all_is_well_until_a_trigger(T_DATA_SENT)
        self.line.slow = True
        self.line.scans(late)
        self.line.slow = False

    @rule(decide=st.sampled_from([at_once, slowly, never]))
    def decides_by_itself(self, decide: Callable[[Shot], Iterator[tuple[int, Verdict, bool]]]) -> None:
        self.station.decide = decide

    @rule(state=st.sampled_from([T_DATA_SENT, T_SEQ_SENT]))
    def all_is_well_until_a_trigger(self, state: int) -> None:
        """So that what comes next happens where it hurts."""
        self.line.linked, self.line.slow, self.station.hung = True, False, False
        for _ in range(40):
            self.line.scan()
            if self.line.twin.sending == state:
                break

    @precondition(lambda self: self.line.said)
    @rule(data=st.data(), part_only=st.booleans())
    def an_old_connections_words_arrive(self, data: st.DataObject, part_only: bool) -> None:
        words = data.draw(st.sampled_from(list(self.line.said)))
        self.line.write((*self.line.registers[:6], *words[6:]) if part_only else words)

    @rule()
    def plc_restarts(self) -> None:
        self.line.restart_plc()

    @rule()
    def station_restarts(self) -> None:
        self.line.restart_station()

    @rule()
    def inspection_restarts(self) -> None:
        self.station.restart_inspection()

    @rule(wanted=st.integers(0, 3))
    def the_plc_wants(self, wanted: int) -> None:
        self.line.wanted = wanted

    @rule(answers=st.booleans())
    def answers_at_once(self, answers: bool) -> None:
        self.station.answers = answers

    @precondition(lambda self: self.station.loading)
    @rule(refusal=st.sampled_from([Refusal.NONE, Refusal.ENGINE]))
    def answers_a_request(self, refusal: Refusal) -> None:
        self.station.load(refusal)

    @rule(number=st.integers(1, 3), before_a_trigger=st.booleans())
    def somebody_else_changes_the_recipe(self, number: int, before_a_trigger: bool) -> None:
        """At once, and the bridge hears of it before the PLC does."""
        if before_a_trigger:
            self.all_is_well_until_a_trigger(T_DATA_SENT)
        self.station.change(RecipeId(number, 1))
        self.station.beat()

    @rule(linked=st.booleans())
    def wire(self, linked: bool) -> None:
        self.line.linked = linked
        self.line.on_its_way.clear()

    @rule(slow=st.booleans())
    def delay(self, slow: bool) -> None:
        self.line.slow = slow

    @rule(hung=st.booleans())
    def hangs(self, hung: bool) -> None:
        self.station.hung = hung

    @invariant()
    def nothing_slipped_through(self) -> None:
        assert all(part.number in self.station.accepted and part.good for part in self.belt.passed)

    @invariant()
    def no_part_passed_under_a_recipe_that_the_plc_was_not_told(self) -> None:
        judged = self.station.judged
        assert all(judged[trigger] == told for trigger, told in self.line.passed.items())

    @invariant()
    def every_part_that_fell_was_seen_falling(self) -> None:
        assert not self.line.twin.latched & A_NOT_CONFIRMED


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_good_parts_pass_when_nothing_fails() -> None:
    belt = Belt(deque(parts(seeded(1), 60, good=1.0)))
    line = DirectLine(belt, FakeStation(belt, at_once))
    while not belt.empty:
        line.scan()
    assert len(belt.passed) == 60
    assert not line.twin.latched


def test_bad_parts_fall_and_raise_an_alarm() -> None:
    belt = Belt(deque(parts(seeded(1), 10, good=0.0)))
    line = DirectLine(belt, FakeStation(belt, at_once))
    while not belt.empty:
        line.scan()
    line.scans(10)
    assert (len(belt.passed), len(belt.rejected)) == (0, 10)
    assert line.twin.rejected_parts == 10
    assert line.twin.latched == A_MANY_REJECTS
