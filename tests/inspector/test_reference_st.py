"""The reference program in Structured Text compiles as strictly as on a PLC and does what its executable twin does."""

import re
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import inspector.plc
from inspector.plc import MAP_VERSION, Command, Reason, StatusBit, twin
from inspector.plc.registers import INPUT_REGISTERS, OUTPUT_REGISTERS
from inspector.plc.twin import LineInputs, Settings, Twin, TwinOutputs, id_words

from .belt import SETTINGS, Belt, DirectLine, FakeStation, as_it_comes, parts, seeded
from .structured_text import Array, Program, StructuredTextError, load

REFERENCE = Path(inspector.plc.__file__).with_name("reference.st")
TEXT = REFERENCE.read_text(encoding="ascii")
TWIN = Path(twin.__file__).read_text(encoding="utf-8")
PAGE = Path(__file__).parents[2] / "docs" / "integration.md"
MARK = r"\b[PRSA]\d+\b"


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def declared() -> list[str]:
    """Every name that the program declares, as it spells it."""
    plain = re.sub(r"\(\*.*?\*\)", "", TEXT, flags=re.DOTALL)
    return re.findall(r"^    (\w+) +: ", plain, flags=re.MULTILINE)


def test_it_compiles() -> None:
    program = load(TEXT)
    assert program.variables["FROMSTATION"] == Array(0, OUTPUT_REGISTERS - 1, "WORD")
    assert program.variables["TOSTATION"] == Array(0, INPUT_REGISTERS - 1, "WORD")
    assert program.memory["REJECTPART"] is True


def test_the_twin_has_all_its_names_and_marks() -> None:
    found = set(re.findall(r"\w+", TWIN))
    assert len(declared()) > 100
    only_there = {"I", "J"}  # loops
    missing = {name for name in declared() if snake(name) not in found and name not in found} - only_there
    assert missing == set()
    assert set(re.findall(MARK, TEXT)) == set(re.findall(MARK, TWIN))


def test_the_integrators_page_tells_all_marks_bits_and_reasons() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(MARK, TEXT)) <= set(re.findall(MARK, page))
    words = " ".join(page.split()).lower()
    for bit in (*StatusBit, *Command):
        assert f"{bit.bit_length() - 1} {(bit.name or '').lower().replace('_', '')}" in words
    told = set(re.findall(r"\d+", page[page.index("## Reasons") : page.index("## Commissioning")]))
    assert {str(int(reason)) for reason in Reason if reason is not Reason.NONE} <= told


def test_its_constants_are_those_of_the_twin_and_of_the_map() -> None:
    program = load(TEXT)
    constants = {name: program.memory[name] for name in program.constants}
    assert constants == {name: getattr(twin, name) for name in constants}
    assert constants["MAP_VERSION"] == MAP_VERSION
    named = {"B_CHANGEOVER": StatusBit.CHANGEOVER_BUSY}
    bits = {name: bit for name, bit in constants.items() if name.startswith("B_")}
    assert bits == {name: named.get(name) or StatusBit[name.removeprefix("B_")] for name in bits}
    settings = {field.upper().replace("_", ""): value for field, value in vars_of(Settings()).items()}
    assert {name: program.memory[name] for name in settings} == settings


def vars_of(thing: Settings | LineInputs | TwinOutputs) -> dict[str, object]:
    return {name: getattr(thing, name) for name in type(thing).__slots__}


@dataclass
class Both(Twin):
    """The twin, and the Structured Text beside it on the same inputs: they must do the same."""

    program: Program = field(default_factory=lambda: load(TEXT))
    seen: set[tuple[str, object]] = field(default_factory=set)

    def scan(self, words_from_station: list[int], line: LineInputs, now_ms: int) -> TwinOutputs:
        outputs = super().scan(words_from_station, line, now_ms)
        given = vars_of(self.settings) | vars_of(line)
        given |= {"from_station": words_from_station, "now_ms": now_ms % 2**32}
        memory = self.program.scan(**{name.upper().replace("_", ""): value for name, value in given.items()})
        for name, value in vars_of(outputs).items():
            found = memory[name.upper().replace("_", "")]
            assert (list(value) if isinstance(value, tuple) else value) == found, name
        self.seen |= {("alarm", outputs.alarm), ("refused", outputs.last_refused), ("passed", outputs.last_passed)}
        return outputs


def test_on_a_line_where_things_fail_both_do_the_same() -> None:
    random = seeded(2)
    belt = Belt(deque(parts(random, 60)))
    station = FakeStation(belt, as_it_comes(random))
    twin = Both(SETTINGS)
    line = DirectLine(belt, station, twin)
    while not belt.empty:
        kind = random.choice(["", "", "", "station", "inspection", "wire", "slow", "hung", "plc"])
        if kind == "station":
            line.restart_station()
        elif kind == "inspection":
            station.restart_inspection()
        elif kind == "plc":
            line.restart_plc()
            line.twin = Both(SETTINGS)
        line.linked, line.slow, station.hung = kind != "wire", kind == "slow", kind == "hung"
        line.scans(random.randrange(1, 40))
    assert len(belt.passed) > 5


def test_on_any_words_both_do_the_same() -> None:
    """Words that are almost a result of the part under way, so that every clause is met alone."""
    random = seeded(4)
    twin, words, encoder, now_ms = Both(replace(SETTINGS, most_rejects=3)), [0] * 40, 2**32 - 2000, 2**32 - 9000
    line = LineInputs()
    for _ in range(1200):
        encoder, now_ms = (encoder + random.choice([0, 3, 10, 20])) % 2**32, now_ms + random.choice([5, 10, 60])
        slot = twin.slot[twin.sent]
        words = [
            0x0100, random.choice([0x0001, 0x0001, 0x0019, 0x0019, 0x0029, 0x0039, 0x1019, 0x0440]),
            words[2] + random.choice([0, 1]), twin.to_station[1], twin.to_station[2], slot.seq, 1, 0xFFFE, 3,
            *words[9:18], *slot.part_id, *[0] * 9, 7, slot.encoder >> 16, slot.encoder & 0xFFFF,
        ]  # fmt: skip
        words[12] = random.choice([5, 5, 5, 6])
        words[6:8] = random.choice([[1, 0xFFFE], [1, 0xFFFE], [1, 0xFFFE], [2, 0xFFFD], [1, 0xFFFD]])
        if random.random() < 0.3:
            words[random.choice([0, 2, 3, 4, 5, 18, 27, 37, 38, 39])] = random.choice([0, 1, 2, 8])
        line = replace(
            line,
            exchanged=random.random() < 0.9,
            enable=random.random() < 0.98,
            reset=random.random() < 0.1,
            recipe=random.choice([0, 0, 5]),
            part_present=random.random() < 0.15,
            part_id=id_words(random.choice(["", "A", "B-1"])),
            encoder=encoder,
            reject_sensor=random.random() < 0.3,
        )
        twin.scan(words, line, now_ms)
    assert {("passed", True), ("passed", False)} <= twin.seen
    refused = {value for name, value in twin.seen if name == "refused" and isinstance(value, int)}
    met = {number for number in range(1, 15) if any(value & 1 << number for value in refused)}
    assert met == set(range(1, 15))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("A := 1;", "A is not declared"),
        ("Flag := 1;", "a number where BOOL"),
        ("Word1 := Count;", "UINT where WORD"),
        ("Count := Word1 + 1;", "does not take WORD"),
        ("Word1 := 16#10000;", "is no WORD"),
        ("Items[3] := 1;", "outside 0..2"),
        ("Given := 1;", "is an input"),
        ("IF Count THEN Flag := TRUE; END_IF;", "UINT where BOOL"),
        ("IF Flag THEN Flag := FALSE; END_IF", "; is missing"),
        ("Flag := Word1 AND Flag;", "BOOL where WORD"),
        ("Wide := Count;", "UINT where UDINT"),
        ("Flag := Count = Word1;", "WORD where UINT"),
        ("Flag := Count ~ 1;", "cannot be read"),
    ],
)
def test_the_compiler_refuses_what_a_plcs_would(body: str, complaint: str) -> None:
    head = """FUNCTION_BLOCK F VAR_INPUT Given : WORD; END_VAR
        VAR Flag : BOOL; Word1 : WORD; Count : UINT; Wide : UDINT; Items : ARRAY[0..2] OF UINT; END_VAR"""
    with pytest.raises(StructuredTextError, match=complaint):
        load(f"{head} {body} END_FUNCTION_BLOCK").scan(GIVEN=0)


def test_two_names_that_differ_in_case_only_are_one() -> None:
    with pytest.raises(StructuredTextError, match="declared twice"):
        load("FUNCTION_BLOCK F VAR Free : BOOL; FREE : BOOL; END_VAR END_FUNCTION_BLOCK")
