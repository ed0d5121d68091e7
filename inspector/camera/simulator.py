"""The demo line: sample parts rendered on the fly, one at every tick, some of them faulty. Knows no file or device."""

import time
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from inspector.camera import CameraError, Untriggered, idle_until
from inspector.inspection import Frame, Image
from inspector.sample import FAULTS, render

_FAULTS = tuple(FAULTS)
_MOST_PARTS = 10**9  # seeds of one line; the next line's follow


class SimulatedLine(Untriggered):
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
            image = self.picture(sequence)
            yield from idle_until(due_ns, self._clock, self._sleep)
            captured_ns = self._clock()
            due_ns = max(due_ns, captured_ns - self._period_ns) + self._period_ns
            yield Frame(sequence, f"SIM-{sequence:06d}", image, captured_ns)
            sequence += 1

    def picture(self, sequence: int) -> Image:
        """What a camera above the line sees of its part with this number."""
        return render(self._part_seed(sequence), self.fault(sequence)).image

    def _part_seed(self, sequence: int) -> int:
        return self._seed * _MOST_PARTS + sequence

    def fault(self, sequence: int) -> str | None:
        """The fault that this line gives to its part with this number, one of `FAULTS`; None for a good part.

        Drawn from the seed and the number alone, so that no list of faults grows while the line runs.
        """
        rng = np.random.default_rng([self._part_seed(sequence), len(_FAULTS)])
        return _FAULTS[int(rng.integers(len(_FAULTS)))] if rng.random() < self._fault_rate else None
