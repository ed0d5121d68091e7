"""The reference PLC program, clause by clause: for each a case in which it alone keeps a part from passing."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from inspector.plc import Command, Outcome, PlcOutputs, Reason, StatusBit
from inspector.plc.registers import inputs_of, words_of
from inspector.plc.twin import (
    A_BYPASS,
    A_ERROR,
    A_MANY_REJECTS,
    A_NOT_CONFIRMED,
    A_RESTARTED,
    A_SETTINGS,
    A_SILENT,
    A_SLOTS_FULL,
    A_WRONG_MAP,
    LAST_SLOT,
    S_DECIDED,
    S_WAITING,
    LineInputs,
    Slot,
    Twin,
    TwinOutputs,
    id_words,
)

from .belt import SETTINGS

BEAT = 5  # scans between two of the station's heartbeats
VALID = StatusBit.READY | StatusBit.RESULT_VALID | StatusBit.OK


@dataclass
class Bench:
    """A PLC on a desk: the test turns the belt and says what the station's registers hold."""

    twin: Twin = field(default_factory=lambda: Twin(SETTINGS))
    station: PlcOutputs = field(default_factory=lambda: PlcOutputs(status=StatusBit.READY, boot_id=7, recipe=1))
    line: LineInputs = field(default_factory=LineInputs)
    start: int = 2**32 - 150  # the encoder wraps on the way
    travelled: int = 0
    now_ms: int = 5000
    beats: bool = True
    echoes: bool = True
    connected: bool = True
    torn: dict[int, int] = field(default_factory=dict)  # registers that hold something else than the station means
    outputs: TwinOutputs | None = None
    _words: list[int] = field(default_factory=lambda: [0] * 40)

    def scan(self, number: int = 1, *, move: int = 0, **changes: object) -> TwinOutputs:
        for _ in range(number):
            self.now_ms += 10
            self.travelled += move
            encoder = (self.start + self.travelled) % 2**32
            self.line = replace(self.line, encoder=encoder, **changes)  # type: ignore[arg-type]
            if self.connected:
                self._exchange()
            self.outputs = self.twin.scan(self._words, replace(self.line, exchanged=self.connected), self.now_ms)
        assert self.outputs is not None
        return self.outputs

    def _exchange(self) -> None:
        if self.beats and self.now_ms % (BEAT * 10) == 0:
            self.say(heartbeat=(self.station.heartbeat + 1) & 0xFFFF)
        if self.echoes:
            written = inputs_of(self.twin.to_station)
            self.say(plc_heartbeat=written.heartbeat, trigger_seq=written.trigger_seq)
        self._words = words_of(self.station)
        for at, word in self.torn.items():
            self._words[at] = word

    def say(self, **changes: object) -> None:
        self.station = replace(self.station, **changes)  # type: ignore[arg-type]

    def ready(self) -> "Bench":
        self.scan(2 * BEAT)
        assert self.outputs is not None
        assert self.outputs.ready
        return self

    def enter(self, part_id: str = "P-1") -> Slot:
        """A part interrupts the light barrier."""
        before = [id(slot) for slot in self.twin.slot]
        self.scan(part_present=True, part_id=id_words(part_id))
        self.scan(part_present=False)
        return next(slot for slot in self.twin.slot if id(slot) not in before)

    def triggered(self, part_id: str = "P-1") -> Slot:
        """A part enters, is triggered and echoed."""
        slot = self.enter(part_id)
        self.scan(2)
        assert (slot.state, slot.echoed) == (S_WAITING, self.echoes)
        return slot

    def answer(self, slot: Slot, part_id: str = "P-1", **changes: object) -> None:
        """The station's registers hold this part's accept, but for the changes."""
        result: dict[str, object] = {
            "status": VALID, "result_seq": slot.seq, "outcome": Outcome.OK, "part_id": part_id, "encoder": slot.encoder
        }  # fmt: skip
        self.say(**result | changes)

    def to_the_ejector(self) -> bool:
        """Whether the ejector lets through what comes next."""
        self.say(status=self.station.status & StatusBit.READY)
        self.scan(move=SETTINGS.decision_distance - self.travelled)
        return not self.scan(move=SETTINGS.ejector_distance - self.travelled).reject_part


def test_an_accepted_part_passes() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.answer(slot)
    bench.scan()
    assert slot.passed
    assert bench.twin.to_station[3] == slot.seq
    assert bench.to_the_ejector()
    outputs = bench.scan(move=SETTINGS.ejector_window)
    assert outputs.reject_part
    assert (outputs.last_passed, outputs.last_seq, outputs.passed_parts, outputs.alarm) == (True, slot.seq, 1, 0)


def never_asked(bench: Bench) -> None:
    bench.say(status=StatusBit.ONLINE)
    bench.scan()
    bench.enter()


def an_answer(**changes: object) -> Callable[[Bench], None]:
    def case(bench: Bench) -> None:
        bench.answer(bench.triggered(), **changes)  # type: ignore[arg-type]
        bench.scan()

    return case


def torn(at: int, word: int) -> Callable[[Bench], None]:
    def case(bench: Bench) -> None:
        bench.answer(bench.triggered())
        bench.torn = {at: word}
        bench.scan()

    return case


def anothers_result(bench: Bench) -> None:
    slot = bench.triggered()
    bench.answer(slot, result_seq=slot.seq + 1)
    bench.scan()


def another_boot(bench: Bench) -> None:
    slot = bench.triggered()
    bench.say(boot_id=8)
    bench.scan(2 * BEAT)
    bench.answer(slot)
    bench.scan()


def standing_heartbeat(bench: Bench) -> None:
    slot = bench.triggered()
    bench.beats = False
    bench.scan(4 * SETTINGS.heartbeat_ms // 10)
    bench.answer(slot)
    bench.scan()


def after_the_decision_point(bench: Bench) -> None:
    slot = bench.triggered()
    bench.scan(move=SETTINGS.decision_distance - 1)
    bench.answer(slot)
    bench.scan(move=1)


def late_echo(bench: Bench) -> None:
    bench.echoes = False
    slot = bench.enter()
    bench.scan(2)
    bench.scan(move=SETTINGS.camera_window)
    bench.echoes = True
    bench.scan(move=1)
    bench.answer(slot)
    bench.scan()


def echo_beside_another_part(bench: Bench) -> None:
    bench.echoes = False
    slot = bench.enter()
    bench.scan(2)
    bench.scan(move=10)
    bench.enter("P-2")
    bench.echoes = True
    bench.scan()
    bench.answer(slot)
    bench.scan()
    for other in bench.twin.slot:
        other.state = other.state if other is slot else 0  # the other part is not what this is about


CASES = {
    "P1 never triggered": never_asked,
    "P2 no result yet": an_answer(status=StatusBit.READY | StatusBit.OK),
    "P3 another trigger's result": anothers_result,
    "P4 another part": an_answer(part_id="P-2"),
    "P4 another part, by its last character": an_answer(part_id="P-1" + "x" * 17),
    "P5 verdict NG": an_answer(outcome=Outcome.NG),
    "P5 verdict not inspected": an_answer(outcome=Outcome.NOT_INSPECTED),
    "P5 no verdict": an_answer(outcome=Outcome.NONE),
    "P6 inverse of NG": torn(7, 0xFFFD),
    "P6 inverse missing": torn(7, 0),
    "P7 NG": an_answer(status=StatusBit.READY | StatusBit.RESULT_VALID | StatusBit.NG),
    "P7 OK and NG": an_answer(status=VALID | StatusBit.NG),
    "P7 neither": an_answer(status=StatusBit.READY | StatusBit.RESULT_VALID),
    "P8 another boot": another_boot,
    "P9 heartbeat stands still": standing_heartbeat,
    "P10 after the decision point": after_the_decision_point,
    "P11 another place": an_answer(encoder=1),
    "P11 another place, high word": an_answer(encoder=65536),
    "P12 the echo came late": late_echo,
    "P12 two parts before the camera": echo_beside_another_part,
    "P13 another map": torn(0, 0x0200),
    "P14 bypassed": an_answer(status=VALID | StatusBit.BYPASS),
}


def without(clause: int) -> Twin:
    """The program with one clause left out."""

    class Without(Twin):
        def refused(self, slot: Slot, from_station: list[int]) -> int:
            return super().refused(slot, from_station) & ~(1 << clause)

        def _enter(self, line: LineInputs) -> None:
            before = [id(slot) for slot in self.slot]
            super()._enter(line)
            for slot in self.slot:
                slot.passed |= clause == 1 and id(slot) not in before

    return Without(SETTINGS)


@pytest.mark.parametrize("name", CASES)
def test_each_clause_alone_keeps_a_part_from_passing(name: str) -> None:
    clause = int(name.split(maxsplit=1)[0].removeprefix("P"))
    bench = Bench().ready()
    CASES[name](bench)
    assert not bench.to_the_ejector()
    assert bench.twin.slot[0].refused & (1 << clause)

    careless = Bench(without(clause)).ready()
    CASES[name](careless)
    assert careless.to_the_ejector(), "another clause holds it back too: the case shows nothing"


def test_the_first_result_is_the_last_word() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.answer(slot, outcome=Outcome.NG, status=StatusBit.RESULT_VALID | StatusBit.NG, reason=Reason.OVER_THRESHOLD)
    bench.scan()
    assert slot.state == S_DECIDED
    bench.answer(slot)
    bench.scan(3)
    assert not bench.to_the_ejector()
    assert slot.reason == Reason.OVER_THRESHOLD


def test_a_restart_of_the_station_rejects_what_is_under_way_and_says_so() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.say(boot_id=8)
    outputs = bench.scan()
    assert not outputs.ready
    assert outputs.alarm == A_RESTARTED | A_SILENT
    bench.scan(2 * BEAT)
    bench.answer(slot)
    bench.scan()
    assert not slot.passed
    assert bench.scan(reset=True).alarm == 0


def test_the_data_is_written_an_exchange_before_its_number() -> None:
    bench = Bench(start=0x12345678).ready()
    bench.scan(part_present=True, part_id=id_words("AB-1"))
    data, number = bench.twin.to_station[6:], bench.twin.to_station[2]
    assert inputs_of(bench.twin.to_station).part_id == "AB-1"
    assert inputs_of(bench.twin.to_station).encoder == 0x12345678
    assert inputs_of(bench.twin.to_station).deadline_ms == SETTINGS.deadline_ms
    assert number == 0
    bench.connected = False
    bench.scan(3)
    assert bench.twin.to_station[2] == 0
    bench.connected = True
    bench.scan()
    assert bench.twin.to_station[2] == 1
    assert bench.twin.to_station[6:] == data


def test_the_next_part_waits_until_the_trigger_before_is_echoed() -> None:
    bench = Bench().ready()
    bench.echoes = False
    bench.enter("P-1")
    bench.scan(move=SETTINGS.camera_window)
    data = bench.twin.to_station[6:]
    bench.scan(5)
    assert bench.twin.to_station[2] == 1
    assert bench.twin.to_station[6:] == data


def test_a_plc_that_starts_goes_on_from_the_stations_number_and_asks_nothing_until_it_is_heard() -> None:
    bench = Bench()
    bench.echoes = False
    bench.say(trigger_seq=65535, result_seq=65535, plc_heartbeat=77)
    outputs = bench.scan(3 * BEAT)
    assert bench.twin.to_station[2] == 65535
    assert not outputs.ready
    bench.echoes = True
    assert bench.scan().ready
    assert bench.triggered().seq == 1


def test_results_that_no_slot_waits_for_are_acknowledged() -> None:
    bench = Bench().ready()
    bench.say(status=VALID, result_seq=41, outcome=Outcome.OK)
    bench.scan()
    assert bench.twin.to_station[3] == 41


def test_a_part_is_only_triggered_while_the_station_is_ready_and_the_part_before_the_camera() -> None:
    bench = Bench().ready()
    bench.say(status=StatusBit.ONLINE)
    bench.scan()
    slot = bench.enter()
    bench.scan(move=SETTINGS.camera_window)
    bench.say(status=StatusBit.READY)
    bench.scan(move=1)
    bench.scan(3)
    assert bench.twin.to_station[2] == 0
    assert (slot.state, slot.refused) == (S_DECIDED, 0x0002)


def test_parts_without_a_slot_are_rejected() -> None:
    bench = Bench()
    bench.line = replace(bench.line, part_present=True)  # it stands there when the PLC starts
    bench.ready()
    assert bench.twin.to_station[2] == 0
    bench.scan(part_present=False)
    assert not bench.to_the_ejector()


def rejected_at_the_ejector(bench: Bench) -> None:
    slot = bench.triggered()
    bench.answer(slot, outcome=Outcome.NG, status=StatusBit.READY | StatusBit.RESULT_VALID | StatusBit.NG)
    bench.scan()
    bench.say(status=StatusBit.READY)
    bench.scan(move=SETTINGS.ejector_distance)


def test_a_reject_that_falls_is_confirmed() -> None:
    bench = Bench().ready()
    rejected_at_the_ejector(bench)
    bench.scan(reject_sensor=True)
    outputs = bench.scan(move=SETTINGS.confirm_distance + 1, reject_sensor=False)
    assert (outputs.alarm, outputs.line_stop, outputs.rejected_parts) == (0, False, 1)


@pytest.mark.parametrize("stuck", [False, True])
def test_a_reject_that_nobody_saw_falling_stops_the_line(stuck: bool) -> None:
    bench = Bench()
    bench.line = replace(bench.line, reject_sensor=stuck)  # a sensor that sees something all the time sees nothing
    bench.ready()
    rejected_at_the_ejector(bench)
    assert not bench.scan(move=SETTINGS.confirm_distance).line_stop
    outputs = bench.scan(move=1)
    assert outputs.line_stop
    assert outputs.alarm == A_NOT_CONFIRMED
    assert inputs_of(bench.twin.to_station).command == Command.ENABLE | Command.STOP
    assert not bench.scan().ready
    assert bench.scan(reset=True).line_stop is False
    assert bench.scan(reset=False).ready


def test_many_rejects_in_a_row_raise_an_alarm_and_a_pass_ends_the_row() -> None:
    bench = Bench().ready()

    def part(outcome: Outcome) -> int:
        slot = bench.triggered()
        bench.answer(slot, outcome=outcome)
        bench.scan()
        bench.say(status=StatusBit.READY)
        bench.scan(move=SETTINGS.ejector_distance)
        bench.scan(reject_sensor=not slot.passed)
        bench.scan(move=SETTINGS.ejector_window, reject_sensor=False)
        return bench.scan().alarm

    few = [Outcome.NG] * (SETTINGS.most_rejects - 1)
    assert [part(outcome) for outcome in [*few, Outcome.OK, *few]] == [0] * (2 * SETTINGS.most_rejects - 1)
    assert part(Outcome.NG) == A_MANY_REJECTS
    assert not bench.scan().line_stop


def test_more_parts_than_slots_stop_the_line() -> None:
    bench = Bench().ready()
    for _ in range(LAST_SLOT + 1):
        bench.enter()
    assert not bench.scan().line_stop
    bench.scan(part_present=True)
    assert bench.scan(part_present=False).alarm == A_SLOTS_FULL
    assert bench.outputs is not None
    assert bench.outputs.line_stop


def test_a_silent_station_is_never_ready_and_may_stop_the_line() -> None:
    for stops in (False, True):
        bench = Bench(Twin(replace(SETTINGS, stop_if_silent=stops))).ready()
        bench.connected = False
        bench.scan(3 * SETTINGS.heartbeat_ms // 10 - BEAT)
        assert bench.scan().ready
        outputs = bench.scan(2 * BEAT)
        assert not outputs.ready
        assert outputs.reject_part
        assert (outputs.alarm, outputs.line_stop) == (A_SILENT, stops)
        bench.connected = True
        bench.scan(2 * BEAT)
        assert bench.scan().ready


def test_what_keeps_the_line_from_being_ready_is_said() -> None:
    assert Bench(Twin(replace(SETTINGS, ejector_window=0))).scan(2 * BEAT).alarm == A_SETTINGS
    for changes, alarm in [
        ({"status": StatusBit.ERROR}, A_ERROR),
        ({"status": StatusBit.READY | StatusBit.BYPASS}, A_BYPASS),
        ({"status": StatusBit.ONLINE}, 0),
    ]:
        bench = Bench().ready()
        bench.say(**changes)
        outputs = bench.scan()
        assert (outputs.ready, outputs.alarm) == (False, alarm)
    bench = Bench().ready()
    bench.torn = {0: 0x0101}
    assert bench.scan().alarm == A_WRONG_MAP
    assert not bench.scan(enable=False).ready


def test_a_bypassed_station_passes_parts_only_where_that_is_allowed() -> None:
    bench = Bench(Twin(replace(SETTINGS, allow_bypass=True))).ready()
    bench.say(status=StatusBit.READY | StatusBit.BYPASS)
    slot = bench.triggered()
    bench.answer(slot, status=VALID | StatusBit.BYPASS)
    assert bench.scan().alarm == A_BYPASS
    assert slot.passed


def test_a_recipe_is_asked_for_once_between_parts_and_awaited() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.scan(3, recipe=5)
    assert bench.twin.to_station[4:6] == [0, 0]
    bench.answer(slot)
    bench.scan()
    bench.say(status=StatusBit.READY)
    outputs = bench.scan(3)
    assert bench.twin.to_station[4:6] == [5, 1]
    assert not outputs.ready
    bench.say(recipe=5, status=StatusBit.READY | StatusBit.CHANGEOVER_BUSY)
    assert not bench.scan().ready
    bench.say(status=StatusBit.READY)
    assert bench.scan().ready


def test_the_heartbeat_counts_scans() -> None:
    bench = Bench()
    bench.twin.heartbeat = 65534
    assert [inputs_of(list(bench.scan().to_station)).heartbeat for _ in range(3)] == [65535, 0, 1]


def test_the_belt_may_be_pushed_back_a_little() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.scan(move=-5)
    assert slot.distance == 0
    bench.answer(slot)
    bench.scan()
    assert slot.passed


def test_an_encoder_that_jumps_passes_nothing() -> None:
    bench = Bench().ready()
    slot = bench.triggered()
    bench.answer(slot)
    bench.scan()
    assert slot.passed
    bench.scan(move=0x80000000)
    assert bench.scan().reject_part
