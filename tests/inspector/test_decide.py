"""Only a timely, finite score that is not above a finite threshold is an accept."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inspector.decide import decide
from inspector.inspection import Prediction, Verdict

any_float = st.floats(allow_nan=True, allow_infinity=True)


def predicted(score: float) -> Prediction:
    return Prediction(score, np.zeros((2, 2), np.float32), {})


@given(score=any_float, threshold=any_float, latency_ms=any_float, deadline_ms=any_float)
def test_a_part_is_accepted_only_if_all_is_well(
    score: float, threshold: float, latency_ms: float, deadline_ms: float
) -> None:
    decision = decide(predicted(score), threshold, latency_ms=latency_ms, deadline_ms=deadline_ms)
    finite = math.isfinite(score) and math.isfinite(threshold)
    assert (decision.verdict is Verdict.ACCEPT) == (finite and score <= threshold and 0 <= latency_ms <= deadline_ms)


@given(score=any_float, threshold=any_float, latency_ms=any_float, deadline_ms=any_float)
def test_a_part_is_rejected_only_on_a_timely_finite_score(
    score: float, threshold: float, latency_ms: float, deadline_ms: float
) -> None:
    decision = decide(predicted(score), threshold, latency_ms=latency_ms, deadline_ms=deadline_ms)
    if decision.verdict is Verdict.REJECT:
        assert math.isfinite(score)
        assert score > threshold
        assert 0 <= latency_ms <= deadline_ms


@given(threshold=any_float, latency_ms=any_float, deadline_ms=any_float)
def test_no_prediction_is_always_a_fault(threshold: float, latency_ms: float, deadline_ms: float) -> None:
    decision = decide(None, threshold, latency_ms=latency_ms, deadline_ms=deadline_ms, failure="the engine is gone")
    assert decision.verdict is Verdict.FAULT
    assert decision.score is None
    assert decision.reason == "the engine is gone"


@given(score=any_float, threshold=any_float, latency_ms=any_float, deadline_ms=any_float)
def test_every_decision_gives_a_reason_and_no_score_that_is_not_finite(
    score: float, threshold: float, latency_ms: float, deadline_ms: float
) -> None:
    decision = decide(predicted(score), threshold, latency_ms=latency_ms, deadline_ms=deadline_ms)
    assert decision.reason
    assert decision.score is None or math.isfinite(decision.score)


def test_a_late_result_is_faulted() -> None:
    decision = decide(predicted(0.1), 0.5, latency_ms=101, deadline_ms=100)
    assert decision.verdict is Verdict.FAULT
    assert decision.reason == "late: 101.0 ms of 100 ms"


def test_a_score_on_the_threshold_is_accepted() -> None:
    assert decide(predicted(0.5), 0.5, latency_ms=1, deadline_ms=100).verdict is Verdict.ACCEPT
