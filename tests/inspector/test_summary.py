"""Percentiles in bounded memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.inspection import Timings, Verdict
from inspector.summary import Latencies, Summary


@given(st.lists(st.floats(0.002, 90_000), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_right_to_two_percent(values: list[float], percent: int) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    assert latencies.percentile(percent) == pytest.approx(exact, rel=0.02)


def test_nothing_counted_has_no_percentile() -> None:
    assert Latencies().percentile(99) is None


def test_a_summary_counts_verdicts_and_says_so() -> None:
    summary = Summary()
    for verdict in (Verdict.ACCEPT, Verdict.ACCEPT, Verdict.FAULT):
        summary.add(verdict, Timings(1.0, 8.0, 0.5, 0.5))
    assert str(summary).startswith("3 parts: 2 accepted, 0 rejected, 1 faults; latency p50 10.")
    assert summary.stages()["infer"]["p99_ms"] == pytest.approx(8, rel=0.02)
