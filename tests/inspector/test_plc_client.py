"""The station as client of a PLC's memory: torn memory passes no part and triggers none; a lost link is told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.plc import Command, Counters, Outcome, PlcInputs, PlcOutputs, PlcPortError, StatusBit
from inspector.plc.client import WHOLE_EVERY_S, PlcClient, Steady, requests
from inspector.plc.registers import OUTPUT_REGISTERS, inputs_of, outputs_checked, text_of, words_from_plc, words_of

from .belt import seeded

MOST_S = 10.0


def result(seq: int, outcome: Outcome, *, valid: bool = True, part_id: str = "", **more: object) -> PlcOutputs:
    status = StatusBit.READY | StatusBit.ONLINE
    if valid:
        status |= StatusBit.RESULT_VALID | (StatusBit.OK if outcome is Outcome.OK else StatusBit.NG)
    outputs = PlcOutputs(status=status, result_seq=seq, outcome=outcome, part_id=part_id, boot_id=9, encoder=seq * 1000)
    return replace(outputs, **more)  # type: ignore[arg-type]


def passes(words: Sequence[int]) -> tuple[int, str] | None:
    """The part that a PLC by docs/integration.md would pass on this block: its number and id."""
    status = StatusBit(words[1])
    ok = (
        outputs_checked(words)
        and StatusBit.RESULT_VALID in status
        and status & (StatusBit.OK | StatusBit.NG) == StatusBit.OK
        and words[6] == Outcome.OK
        and words[5] * 1000 == words[38] << 16 | words[39]
    )
    return (words[5], text_of(words[18:28])) if ok else None


def torn(memory: list[int], first: int, words: Sequence[int], random: Random) -> list[list[int]]:
    """Every content that the PLC's program may see while one request is stored, a word at a time in any order."""
    seen = []
    for at in random.sample(range(len(words)), len(words)):
        memory[first + at] = words[at]
        seen.append(list(memory))
    return seen


SHOWN = st.lists(
    st.builds(
        result,
        st.integers(1, 4),
        st.sampled_from([Outcome.OK, Outcome.NG, Outcome.NOT_INSPECTED]),
        valid=st.booleans(),
        part_id=st.sampled_from(["", "A"]),
        heartbeat=st.integers(0, 3),
        queue_depth=st.integers(0, 2),
    ),
    min_size=1,
    max_size=6,
)


@given(SHOWN, st.booleans(), st.integers(0, 1 << 32))
def test_no_moment_of_torn_memory_passes_a_part_that_is_not_ok(
    results: list[PlcOutputs], knows: bool, seed: int
) -> None:
    random = seeded(seed)
    shown = [replace(one, result_seq=10 + n, encoder=(10 + n) * 1000) for n, one in enumerate(results)]
    shown = [again for one in shown for again in (one, replace(one, heartbeat=one.heartbeat + 1))]
    memory = words_of(shown[0]) if knows else words_of(result(3, Outcome.OK, part_id="A"))  # of a station of before
    truth = {(one.result_seq, one.part_id) for one in shown if StatusBit.OK in one.status} | {(3, "A")}
    held = list(memory) if knows else None
    for outputs in shown:
        wanted = words_of(outputs)
        for first, words in requests(held, wanted, whole=random.random() < 0.5):
            for seen in torn(memory, first, words, random):
                assert passes(seen) in truth | {None}
        held = wanted
        assert memory == wanted


def test_one_request_would_pass_it() -> None:
    """The test above can fail: in one piece, torn, a part that is NG passes on the words of the one before."""
    before, after = words_of(result(1, Outcome.OK)), words_of(result(2, Outcome.NG))
    found = {passes(seen) for n in range(500) for seen in torn(list(before), 0, after, seeded(n))}
    assert (2, "") in found


def test_only_what_is_new_is_written_and_an_echo_does_not_wait_for_it() -> None:
    held = words_of(result(1, Outcome.OK))
    echo = words_of(result(1, Outcome.OK, plc_heartbeat=5))
    deeper = words_of(result(1, Outcome.OK, plc_heartbeat=5, queue_depth=1, counters=Counters(9)))
    assert requests(held, held, whole=False) == []
    assert requests(held, echo, whole=False) == [(0, echo[:5])]
    assert requests(held, deeper, whole=False) == [(0, deeper[:5]), (5, deeper[5:])]
    assert requests(held, held, whole=True) == [(0, held[:5]), (5, held[5:])]


def test_a_verdict_is_withdrawn_before_the_next_is_written_and_made_valid_last() -> None:
    held, wanted = words_of(result(1, Outcome.OK)), words_of(result(2, Outcome.NG))
    idle = int(StatusBit.READY | StatusBit.ONLINE)
    assert requests(held, wanted, whole=False) == [(1, [idle]), (5, wanted[5:]), (0, wanted[:5])]
    again = words_of(result(1, Outcome.NG))  # a PLC that counts anew, without ids and an encoder
    assert requests(held, again, whole=False) == [(1, [idle]), (5, again[5:]), (0, again[:5])]
    acknowledged = words_of(result(1, Outcome.OK, valid=False))
    assert requests(acknowledged, wanted, whole=False) == [(5, wanted[5:]), (0, wanted[:5])]
    assert requests(None, wanted, whole=False) == [(1, [0]), (5, wanted[5:]), (0, wanted[:5])]


def program(memory: list[int], heard: dict[int, PlcInputs], random: Random) -> Iterator[None]:
    """A PLC's stores, one a step: a part's words in any order, then its number; the next part's after its echo."""
    for seq in range(1, 1000):
        words = words_from_plc(PlcInputs(part_id=f"PART-{seq:06d}-OF-LINE", encoder=seq * 70_001, deadline_ms=seq))
        for at in random.sample(range(6, 19), 13):
            memory[at] = words[at]
            yield
        memory[2] = seq
        while seq not in heard:
            yield


@given(st.integers(0, 1 << 32), st.integers(1, 5))
def test_a_torn_read_never_gives_a_trigger_the_data_of_another_part(seed: int, most_steps: int) -> None:
    """The PLC stores while its memory is read, a word at a time in any order."""
    random, steady = seeded(seed), Steady()
    memory, heard = words_from_plc(PlcInputs()), {0: PlcInputs()}
    stores = program(memory, heard, random)
    for asked_ns in range(60):
        words = [0] * len(memory)
        for at in random.sample(range(len(memory)), len(memory)):
            words[at] = memory[at]
            for _ in range(random.randint(0, most_steps)):
                next(stores)
        taken = steady.take(words, asked_ns)
        if taken is not None:
            heard.setdefault(taken.inputs.trigger_seq, taken.inputs)
    for seq, inputs in heard.items():
        assert (inputs.part_id, inputs.encoder) == ((f"PART-{seq:06d}-OF-LINE", seq * 70_001) if seq else ("", 0))
    assert len(heard) > 5


def test_a_number_is_believed_the_second_time_and_is_as_old_as_the_read_without_it() -> None:
    steady = Steady()
    quiet, trigger = words_from_plc(PlcInputs()), words_from_plc(PlcInputs(trigger_seq=1, part_id="A"))
    recipe = words_from_plc(PlcInputs(trigger_seq=1, part_id="A", recipe_request=2, recipe_request_seq=1))
    assert steady.take(quiet, 10) is None
    for words, asked_ns, since_ns in [(quiet, 20, 20), (quiet, 30, 20)]:
        heard = steady.take(words, asked_ns)
        assert heard is not None
        assert heard.since_ns == since_ns
    assert steady.take(trigger, 40) is None
    heard = steady.take(trigger, 50)
    assert heard is not None
    assert (heard.inputs.trigger_seq, heard.since_ns) == (1, 30)
    assert steady.take(recipe, 60) is None
    assert steady.take(recipe, 70) is not None


@dataclass
class FakeMemory:
    """A PLC's memory, with a program of a line: it counts its heartbeat at every read."""

    where: str = "a PLC"
    to_station: list[int] = field(default_factory=lambda: words_from_plc(PlcInputs(command=Command.ENABLE)))
    from_station: list[int] = field(default_factory=lambda: [0] * OUTPUT_REGISTERS)
    fails: str = ""  # the call that does
    calls: list[str] = field(default_factory=list)
    written: list[tuple[int, int]] = field(default_factory=list)  # first word and how many

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.fails == name:
            raise PlcPortError(f"{name} fails")

    def open(self) -> None:
        self._called("open")

    def read_to_station(self) -> list[int]:
        self._called("read")
        self.to_station[1] = (self.to_station[1] + 1) & 0xFFFF
        return list(self.to_station)

    def read_from_station(self) -> list[int]:
        return list(self.from_station)

    def write_from_station(self, first: int, words: Sequence[int]) -> None:
        self._called("write")
        self.written.append((first, len(words)))
        self.from_station[first : first + len(words)] = words

    def close(self) -> None:
        self.calls.append("close")


@dataclass
class Station:
    """What the bridge is to a client."""

    memory: FakeMemory = field(default_factory=FakeMemory)
    shows: PlcOutputs = field(default_factory=lambda: result(0, Outcome.NONE, valid=False))
    heard: list[tuple[PlcInputs, int]] = field(default_factory=list)
    lost: int = 0
    now_ns: int = 0

    def clock(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def hear(self, inputs: PlcInputs, since_ns: int) -> None:
        self.heard.append((inputs, since_ns))

    def lose(self) -> None:
        self.lost += 1

    def run(self, scenario: Callable[[], Awaitable[None]], poll_ms: float = 1.0) -> None:
        async def main() -> None:
            client = PlcClient(
                self.memory, poll_ms, self.hear, self.lose, lambda: self.shows, clock=self.clock
            )  # fmt: skip
            async with client.serving():
                await scenario()

        asyncio.run(asyncio.wait_for(main(), MOST_S))


async def until(wanted: Callable[[], bool]) -> None:
    while not wanted():
        await asyncio.sleep(0.001)


def test_what_the_plc_writes_is_heard_and_the_station_answers_into_its_memory() -> None:
    station = Station()

    async def scenario() -> None:
        await until(lambda: len(station.heard) > 3)
        station.memory.to_station[2] = 7
        await until(lambda: station.heard[-1][0].trigger_seq == 7)
        station.shows = result(7, Outcome.OK, part_id="P")
        await until(lambda: station.memory.from_station == words_of(station.shows))

    station.run(scenario)
    assert station.lost == 0
    assert station.memory.calls[-1] == "close"
    numbers = [inputs.trigger_seq for inputs, _ in station.heard]
    since_ns = station.heard[numbers.index(7)][1]
    assert numbers == sorted(numbers)
    assert 0 < since_ns < station.now_ns


def test_a_result_does_not_wait_for_the_next_read() -> None:
    station = Station()

    async def scenario() -> None:
        await until(lambda: "write" in station.memory.calls)
        await asyncio.sleep(0.05)
        reads = station.memory.calls.count("read")
        station.shows = result(1, Outcome.NG)
        await until(lambda: station.memory.from_station == words_of(station.shows))
        assert station.memory.calls.count("read") == reads

    station.run(scenario, poll_ms=100_000)


def test_what_somebody_else_has_overwritten_is_written_again() -> None:
    station = Station()

    async def scenario() -> None:
        await until(lambda: station.memory.from_station == words_of(station.shows))
        station.memory.from_station[:] = [0] * OUTPUT_REGISTERS  # the PLC's program was loaded anew
        before = asyncio.get_running_loop().time()
        await until(lambda: station.memory.from_station == words_of(station.shows))
        assert asyncio.get_running_loop().time() - before < 2 * WHOLE_EVERY_S

    station.run(scenario)


@pytest.mark.parametrize("call", ["open", "read", "write"])
def test_a_connection_that_fails_is_lost_closed_and_made_again(call: str, caplog: pytest.LogCaptureFixture) -> None:
    station = Station()

    async def scenario() -> None:
        await until(lambda: bool(station.heard))
        heard = len(station.heard)
        station.memory.fails = "read" if call == "open" else call
        station.shows = result(1, Outcome.NG)  # something to write
        await until(lambda: station.lost > 0)
        station.memory.fails = call
        heard = len(station.heard)
        station.memory.written.clear()
        await until(lambda: station.lost > 2)
        assert call == "write" or len(station.heard) == heard
        station.heard.clear()
        station.memory.written.clear()
        station.memory.fails = ""  # last: its calls are made in a thread
        await until(lambda: station.memory.from_station == words_of(station.shows) and bool(station.heard))

    station.run(scenario)
    connections = [name for name in station.memory.calls if name in {"open", "close"}]
    assert connections == ["open", "close"] * (len(connections) // 2 - 1) + ["open", "close"]
    assert len(connections) >= 8
    assert station.memory.written[:3] == [(1, 1), (5, 35), (0, 5)]  # what the PLC holds now, nobody knows
    said = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert sum(f"{call} fails; the station is not ready" in line for line in said) == 1


def test_waits_for_another_connection_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    station, waits = Station(), []
    sleep = asyncio.sleep

    async def count(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    station.memory.fails = "open"

    async def scenario() -> None:
        while len(waits) < 6:
            await sleep(0.001)

    monkeypatch.setattr("inspector.plc.client.asyncio.sleep", count)
    station.run(scenario)
    assert waits[:6] == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_plc_whose_numbers_never_stand_still_is_not_heard_but_answered() -> None:
    station = Station()

    def restless() -> list[int]:
        station.memory.to_station[2] += 1
        return list(station.memory.to_station)

    station.memory.read_to_station = restless  # type: ignore[method-assign]

    async def scenario() -> None:
        await until(lambda: station.memory.from_station == words_of(station.shows))

    station.run(scenario)
    assert station.heard == []


def test_an_error_of_the_bridge_ends_it() -> None:
    station = Station()

    def fail() -> PlcOutputs:
        raise ZeroDivisionError

    async def main() -> None:
        client = PlcClient(station.memory, 1.0, station.hear, station.lose, fail, clock=station.clock)
        async with client.serving():
            await asyncio.sleep(MOST_S)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert station.memory.calls[-1] == "close"


def test_words_are_those_of_the_map() -> None:
    assert inputs_of(FakeMemory().read_to_station()) == PlcInputs(command=Command.ENABLE, heartbeat=1)
