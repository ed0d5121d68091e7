"""The campaigns themselves, on a few parts."""

import pytest

pytest.importorskip("pymodbus", reason="pymodbus is not installed: pip install -e '.[plc]'")

from inspector.plc.campaign import faults, latency


def test_the_way_from_trigger_to_result_is_timed() -> None:
    found = latency(30, lambda *_: None, delay_ms=5)
    assert found["outcomes"] == {"OVER_THRESHOLD": 10, "OK": 20}
    assert found["lost_decisions"] == 0


@pytest.mark.slow
def test_parts_survive_what_is_done_to_their_station() -> None:
    found = faults(400, lambda *_: None, seed=3)
    assert found["passes_without_a_journalled_accept"] == 0
    assert found["lost_decisions"] == 0
    assert isinstance(found["passed"], int)
    assert found["passed"] > 50
    assert found["faults"]
