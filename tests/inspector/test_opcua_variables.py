"""The PLC's map as variables, without any server."""

from dataclasses import fields

import pytest

from inspector.plc import Command, Counters, Outcome, PlcInputs, PlcOutputs, Reason, StatusBit
from inspector.plc.opcua_variables import INPUTS, OUTPUTS, fits, input_values, output_values, written


def test_every_field_and_every_bit_has_a_variable() -> None:
    values = output_values(
        PlcOutputs(
            status=StatusBit.RESULT_VALID | StatusBit.NG | StatusBit.PLC_HEARTBEAT_LOST,
            outcome=Outcome.NG,
            reason=Reason.OVER_THRESHOLD,
            counters=Counters(total=3, ng=2, not_inspected=1),
            part_id="P-1",
        )
    )
    of_fields = {field.name.title().replace("_", "") for field in fields(PlcOutputs)} - {"Status", "Counters"}
    assert of_fields <= values.keys() == OUTPUTS.keys()
    assert {name for name, value in values.items() if value is True} == {"ResultValid", "Ng", "PlcHeartbeatLost"}
    assert (values["Outcome"], values["OutcomeInverse"]) == (2, 0xFFFD)
    assert (values["Reason"], values["ReasonText"]) == (1, "over threshold")
    assert (values["TotalCount"], values["NgCount"], values["NotInspectedCount"]) == (3, 2, 1)


def test_what_says_that_there_is_a_result_is_written_last() -> None:
    assert list(output_values(PlcOutputs()))[-2:] == ["ResultSeq", "ResultValid"]
    assert list(output_values(PlcOutputs())) == list(OUTPUTS)


def test_inputs_survive_the_way_there_and_back() -> None:
    inputs = PlcInputs(Command.ENABLE | Command.STOP, 1, 2, 3, 4, 5, "P-9", 70_000, 300)
    values = input_values(inputs)
    assert values.keys() == INPUTS.keys()
    assert written(PlcInputs(Command.ABORT), values) == inputs


def test_what_is_not_written_stays() -> None:
    before = PlcInputs(Command.ENABLE, heartbeat=7, part_id="P-9")
    after = written(before, {"Enable": False, "ErrorReset": True, "TriggerSeq": 4})
    assert after == PlcInputs(Command.ERROR_RESET, heartbeat=7, part_id="P-9", trigger_seq=4)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("Enable", True, 1),
        ("TriggerSeq", 65535, 65536),
        ("Heartbeat", 0, True),
        ("Encoder", 0xFFFFFFFF, -1),
        ("PartId", "a" * 20, "a" * 21),
        ("PartId", "", None),
        ("PartId", "Teil-Ä", "a\0"),
        ("DeadlineMs", 300, [300]),
    ],
)
def test_only_values_of_the_right_kind_and_range_fit(name: str, good: object, bad: object) -> None:
    assert fits(name, good)
    assert not fits(name, bad)
