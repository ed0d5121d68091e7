"""Counts verdicts and latencies of a run of any length in bounded memory. Knows no clock."""

import math
from dataclasses import fields

from inspector.inspection import Timings, Verdict

STAGES = (*(field.name.removesuffix("_ms") for field in fields(Timings)), "total")

_FIRST_MS = 0.001
_GROWTH = 1.02  # a percentile is right to 1 %
_BINS = math.ceil(math.log(1e8) / math.log(_GROWTH))  # up to 100 s


class Latencies:
    """A histogram with logarithmic bins."""

    def __init__(self) -> None:
        self._counts = [0] * _BINS
        self._total = 0

    def add(self, milliseconds: float) -> None:
        """Count one latency."""
        ratio = max(milliseconds / _FIRST_MS, 1.0)
        self._counts[min(int(math.log(ratio) / math.log(_GROWTH)), _BINS - 1)] += 1
        self._total += 1

    def percentile(self, percent: float) -> float | None:
        """Give the latency in milliseconds that so many percent do not exceed; None when nothing was counted."""
        rank = math.ceil(self._total * percent / 100)
        seen = 0
        for index, number in enumerate(self._counts):
            seen += number
            if number and seen >= rank:
                return float(_FIRST_MS * _GROWTH ** (index + 0.5))
        return None


class Summary:
    """What a run has done so far."""

    def __init__(self) -> None:
        self.counts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.lost = 0  # frames that the camera counted and never delivered; each is among the faults
        self.last: Timings | None = None
        self._stages = {stage: Latencies() for stage in STAGES}

    @property
    def parts(self) -> int:
        """How many parts were decided."""
        return sum(self.counts.values())

    def add(self, verdict: Verdict, timings: Timings) -> None:
        """Count one part."""
        self.counts[verdict] += 1
        self.last = timings
        for stage, latencies in self._stages.items():
            latencies.add(getattr(timings, f"{stage}_ms"))

    def stages(self) -> dict[str, dict[str, float | None]]:
        """Give p50 and p99 of every stage and of the total, in milliseconds."""
        return {
            stage: {"p50_ms": latencies.percentile(50), "p99_ms": latencies.percentile(99)}
            for stage, latencies in self._stages.items()
        }

    def __str__(self) -> str:
        accepted, rejected, faults = (self.counts[verdict] for verdict in Verdict)
        total = self._stages["total"]
        median, tail = total.percentile(50), total.percentile(99)
        latency = "" if median is None or tail is None else f"; latency p50 {median:.1f} ms, p99 {tail:.1f} ms"
        return f"{self.parts} parts: {accepted} accepted, {rejected} rejected, {faults} faults{latency}"
