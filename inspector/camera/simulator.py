"""The demo line: sample parts rendered on the fly, one at every tick, some of them faulty. Knows no file or device."""

import time
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from inspector.camera import CameraError, idle_until
from inspector.inspection import Frame
from inspector.sample import FAULTS, render

_FAULTS = tuple(FAULTS)
_MOST_PARTS = 10**9  # seeds of one line; the next line's follow


class SimulatedLine:
    """Parts of the sample product, called SIM-000000 and so on, `fault_rate` of them with one of its faults.

    The part of a tick is rendered before it, so that rendering is no latency. Where the loop and the rendering
    together outlast a tick, the line waits for them and does not catch up.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        fault_rate: float,
        seed: int = 0,
        parts: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`parts` ends the line after so many.

        Raises:
            ValueError: a rate that no line can have.
        """
        if rate_hz <= 0 or not 0 <= fault_rate <= 1:
            raise ValueError("the simulated line needs a rate_hz above 0 and a fault_rate from 0 to 1")
        self._period_ns = round(1e9 / rate_hz)
        self._fault_rate = fault_rate
        self._seed = seed
        self._parts = parts
        self._clock = clock
        self._sleep = sleep
        self._opened = False

    def __enter__(self) -> Self:
        self._opened = True
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened = False

    def __iter__(self) -> Iterator[Frame | None]:
        due_ns = self._clock()
        sequence = 0
        while sequence != self._parts:
            if not self._opened:
                raise CameraError("the simulated line is not open: iterate it within a with statement")
            image = render(self._part_seed(sequence), self._fault(sequence)).image
            yield from idle_until(due_ns, self._clock, self._sleep)
            captured_ns = self._clock()
            due_ns = max(due_ns, captured_ns - self._period_ns) + self._period_ns
            yield Frame(sequence, f"SIM-{sequence:06d}", image, captured_ns)
            sequence += 1

    def truth(self, part_id: str) -> str | None:
        """The fault that this line gave the part, one of `FAULTS`; None for a good part.

        Raises:
            ValueError: the id is not one of this line's.
        """
        prefix, _, number = part_id.partition("-")
        if prefix != "SIM" or not number.isdecimal():
            raise ValueError(f"{part_id!r} is no part of the simulated line: its parts are called like SIM-000123")
        return self._fault(int(number))

    def _part_seed(self, sequence: int) -> int:
        return self._seed * _MOST_PARTS + sequence

    def _fault(self, sequence: int) -> str | None:
        """Drawn from the seed and the sequence alone, so that no list of faults grows while the line runs."""
        rng = np.random.default_rng([self._part_seed(sequence), len(_FAULTS)])
        return _FAULTS[int(rng.integers(len(_FAULTS)))] if rng.random() < self._fault_rate else None
