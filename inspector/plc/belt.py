"""A belt with parts, a light barrier, a camera's view and an ejector: what really happens, for campaigns and tests."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from inspector.plc.twin import LineInputs, Settings, TwinOutputs, id_words

PART_LENGTH = 30  # encoder counts
FALLS_FOR = 2  # scans from the ejector to the sensor in the chute
ENCODER = 1 << 32


@dataclass(frozen=True, slots=True)
class Part:
    """One part; its number is its own, its id need not be."""

    number: int
    at: int  # counts that the belt has travelled when it reaches the light barrier
    good: bool
    part_id: str


class Belt:
    """Moves when it is told to; parts pass or fall as the PLC's outputs are when they reach the ejector."""

    def __init__(self, coming: Iterable[Part], settings: Settings, *, in_view: int, start: int = 0) -> None:
        """`in_view`: counts for which a part stands before the camera; `start`: the encoder's at first."""
        self.coming = deque(coming)
        self.on_belt: list[Part] = []
        self.passed: list[Part] = []
        self.rejected: list[Part] = []
        self.travelled = 0
        self._in_view = in_view
        self._start = start
        self._falls_at = settings.ejector_distance + settings.ejector_window // 2
        self._falling = 0  # scans until the sensor sees it

    @property
    def empty(self) -> bool:
        """No part is left."""
        return not self.coming and not self.on_belt

    def advance(self, counts: int) -> LineInputs:
        """Move before a scan; what the PLC sees then."""
        self.travelled += counts
        while self.coming and self.coming[0].at <= self.travelled:
            self.on_belt.append(self.coming.popleft())
        self._falling = max(0, self._falling - 1)
        at_barrier = next((part for part in self.on_belt if self.travelled - part.at < PART_LENGTH), None)
        return LineInputs(
            part_present=at_barrier is not None,
            part_id=id_words(at_barrier.part_id if at_barrier is not None else ""),
            encoder=(self._start + self.travelled) % ENCODER,
            reject_sensor=self._falling == 1,
        )

    def obey(self, outputs: TwinOutputs) -> None:
        """The ejector does what the PLC says."""
        for part in [part for part in self.on_belt if self.travelled - part.at >= self._falls_at]:
            self.on_belt.remove(part)
            (self.rejected if outputs.reject_part else self.passed).append(part)
            self._falling = FALLS_FOR if outputs.reject_part else self._falling

    def before_camera(self) -> Part | None:
        """The part that stands there alone."""
        seen = [part for part in self.on_belt if self.travelled - part.at <= self._in_view]
        return seen[0] if len(seen) == 1 else None
