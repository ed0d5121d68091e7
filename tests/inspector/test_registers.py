"""Map 1.0, register by register, as docs/integration.md draws it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.plc import Command, Counters, Outcome, PlcInputs, PlcOutputs, Reason, StatusBit
from inspector.plc.registers import INPUT_REGISTERS, inputs_of, outputs_checked, words_from_plc, words_of

WORD = st.integers(0, 0xFFFF)
INPUTS = st.builds(
    PlcInputs,
    command=st.sampled_from([Command(0), Command.ENABLE, Command.ENABLE | Command.ABORT]),
    heartbeat=WORD,
    trigger_seq=WORD,
    result_ack_seq=WORD,
    recipe_request=WORD,
    recipe_request_seq=WORD,
    part_id=st.text("ABCxyz019-_.", max_size=20),
    encoder=st.integers(0, 2**32 - 1),
    deadline_ms=WORD,
)


def test_every_register_is_where_the_map_says() -> None:
    words = words_of(
        PlcOutputs(
            status=StatusBit.READY | StatusBit.OK, heartbeat=2, plc_heartbeat=3, trigger_seq=4, result_seq=5,
            outcome=Outcome.NG, reason=Reason.TIMEOUT, score=1.5, inspection_ms=11, recipe=12, recipe_revision=13,
            model_id=14, queue_depth=17, part_id="AB-1", counters=Counters(0x10002, 30, 32), error_code=34,
            warning_code=35, opc_state=36, boot_id=37, encoder=0x00380039,
        )
    )  # fmt: skip
    assert words[:9] == [0x0100, 0b10001, 2, 3, 4, 5, 2, 0xFFFD, 2]
    assert struct.unpack(">f", struct.pack(">2H", *words[9:11])) == (1.5,)
    assert words[11:18] == [11, 12, 13, 14, 0, 0, 17]
    assert words[18:20] == [0x4142, 0x2D31]
    assert words[20:28] == [0] * 8
    assert words[28:40] == [1, 2, 0, 30, 0, 32, 34, 35, 36, 37, 0x38, 0x39]
    assert outputs_checked(words)


def test_a_torn_verdict_is_found_out() -> None:
    words = words_of(PlcOutputs(outcome=Outcome.NG))
    words[6] = Outcome.OK
    assert not outputs_checked(words)


@given(INPUTS)
def test_what_a_plc_writes_is_what_is_read(inputs: PlcInputs) -> None:
    assert inputs_of(words_from_plc(inputs)) == inputs


@given(st.lists(WORD, min_size=INPUT_REGISTERS, max_size=INPUT_REGISTERS))
def test_any_registers_can_be_read(words: list[int]) -> None:
    assert inputs_of(words).trigger_seq == words[2]


def test_another_number_of_registers_is_an_error() -> None:
    with pytest.raises(ValueError, match="18 registers"):
        inputs_of([0] * 18)
