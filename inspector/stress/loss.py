"""A camera is lost again and again, and comes back; no verdict is invented meanwhile."""

import time
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from inspector.camera import Event, Outage
from inspector.camera.genicam import HANGING_S
from inspector.camera.gentl.stage import Stage
from inspector.inspection import Frame
from inspector.stress.rig import (
    PATIENCE_S,
    Progress,
    Row,
    StressError,
    camera_feed,
    camera_stage,
    has_picture,
    next_frame,
    require,
)

FAULTS: dict[str, Callable[[Stage, bool], None]] = {
    "unplugged": lambda stage, on: setattr(stage, "present", not on),
    "stalled": lambda stage, on: setattr(stage, "stalled", on),
    "hanging": lambda stage, on: setattr(stage, "hang", on),
    "crashed": lambda stage, on: setattr(stage, "abort", on),
}
AWAY_S = {
    "unplugged": 0.5,
    "stalled": 0.5,
    "hanging": HANGING_S + 0.5,  # so long that its process is killed
    "crashed": 0.0,  # which leaves the camera where it was
}


def loss(cycles: int, progress: Progress) -> list[Row]:
    """Lose the camera again and again, in each of the ways of `FAULTS` in turn, and get it back.

    A frame that comes while the camera is away, or one that shows a part twice or none, is a verdict invented.

    Raises:
        StressError: a verdict was invented, or the camera did not come back.
    """
    times: dict[str, dict[str, list[float]]] = {kind: {"noticed": [], "back": []} for kind in FAULTS}
    with (
        camera_stage(64, 48, numbered=True) as stage,
        camera_feed(trigger="free-run", rate_hz=50, PixelFormat="Mono8") as feed,
    ):
        events, seen = iter(feed), _Seen()
        for cycle_number, kind in zip(range(cycles), cycle(FAULTS), strict=False):
            progress("losses", cycle_number, cycles)
            seen.add(next_frame(events))
            noticed_s, back_s = _lose(FAULTS[kind], stage, events, seen, AWAY_S[kind])
            times[kind]["noticed"].append(noticed_s)
            times[kind]["back"].append(back_s)
        progress("losses", cycles, cycles)
        counts = dict(feed.counts)
    return [
        {
            "what": f"camera {kind}", "cycles": len(found["back"]), "invented_verdicts": 0,
            "noticed_s": _quartiles(found["noticed"]), "back_s": _quartiles(found["back"]), "counts": counts,
        }
        for kind, found in times.items() if found["back"]
    ]  # fmt: skip


class _Seen:
    """Which parts have been seen: each at most once, in their order."""

    def __init__(self) -> None:
        self._last = -1
        self._sequence = -1

    def add(self, frame: Frame) -> None:
        part = int.from_bytes(frame.image.tobytes()[:4], "little")
        if part <= self._last or frame.sequence <= self._sequence:
            raise StressError(f"part {part} came after {self._last}: a picture was shown twice")
        self._last, self._sequence = part, frame.sequence


def _lose(
    fault: Callable[[Stage, bool], None], stage: Stage, events: Iterator[Event], seen: _Seen, away_s: float
) -> tuple[float, float]:
    """One loss; how long until it was noticed, and from the camera's return to its first frame."""
    fault(stage, True)
    lost_at = time.monotonic()
    while not isinstance(event := next(events), Outage):
        if has_picture(event):
            seen.add(event)  # exposed before the loss
        require(time.monotonic() - lost_at < PATIENCE_S, "the loss was not noticed")
    noticed_s = time.monotonic() - lost_at
    while time.monotonic() - lost_at < noticed_s + away_s:
        require(isinstance(next(events), Outage), "something came while the camera was away")
    fault(stage, False)
    back_at = time.monotonic()
    while not has_picture(event := next(events)):
        require(time.monotonic() - back_at < PATIENCE_S, "the camera did not come back")
    seen.add(event)
    return noticed_s, time.monotonic() - back_at


def _quartiles(seconds: list[float]) -> dict[str, float]:
    return {"median": float(np.median(seconds)), "longest": max(seconds)}
