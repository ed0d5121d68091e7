"""Hundreds of thousands of frames, some of them lost: every one is accounted for, and memory does not grow."""

import os
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inspector.camera import Outage
from inspector.inspection import Frame
from inspector.stress.rig import Progress, Row, StressError, camera_feed, camera_stage

SOAK_HZ = 500.0
FRAMES_BETWEEN = 3  # the first one, and what is on its way
MOST_GROWTH_MB = 20.0  # of resident memory in a million frames
SAMPLE_FRAMES = 1000  # between two samples of the memory
LEAST_SAMPLES = 10
_PAGE = resource.getpagesize()


@dataclass
class Memory:
    """Resident memory of a process over frames."""

    frames: list[int] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)

    def add(self, frames: int, pid: int) -> None:
        """Take a sample."""
        self.frames.append(frames)
        self.mb.append(resident_mb(pid))

    def growth_mb_per_million(self) -> float | None:
        """Slope of a straight line through the second half of the samples: a start needs memory once.

        None of too few samples: a short run says nothing of a long one.
        """
        if len(self.frames) < LEAST_SAMPLES:
            return None
        half = len(self.frames) // 2
        return float(np.polyfit(self.frames[half:], self.mb[half:], 1)[0] * 1e6)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE / 2**20


def soak(frames: int, progress: Progress) -> Row:
    """Run the path for so many frames, some of them lost or incomplete, and account for each by the camera's truth.

    Raises:
        StressError: a frame is not accounted for, or memory grows.
    """
    memory = {"acquisition": Memory(), "station": Memory()}
    with (
        camera_stage(640, 480, incomplete_every=997, drop_every=1009) as stage,
        camera_feed(trigger="free-run", rate_hz=SOAK_HZ, PixelFormat="Mono8", ExposureTime=10.0) as feed,
    ):
        started, parts = time.monotonic(), 0
        for event in feed:
            if isinstance(event, Outage) and not stage.stalled:
                raise StressError(f"the camera was lost: {event.reason}")
            if isinstance(event, Frame):
                parts += 1
                if parts % SAMPLE_FRAMES == 0:
                    progress("frames", min(parts, frames), frames)
                    memory["acquisition"].add(parts, feed.pid)
                    memory["station"].add(parts, os.getpid())
                if parts == frames:
                    stage.stalled = True  # what was exposed until now is still on its way
            elif stage.stalled:
                break
        elapsed, counts, after = time.monotonic() - started, feed.counts, stage.counters
        resident = {"acquisition": resident_mb(feed.pid), "station": resident_mb(os.getpid())}
    truth = {key: getattr(after, key) for key in ("exposures", "incomplete", "dropped", "underruns")}
    growth = {who: of.growth_mb_per_million() for who, of in memory.items()}
    account(parts, counts, truth, growth)
    return {
        "what": "soak", "parts": parts, "seconds": elapsed, "fps": parts / elapsed, "counts": dict(counts),
        "camera": truth, "rss_growth_mb_per_million_frames": growth,
        "rss_mb": resident,
    }  # fmt: skip


def account(parts: int, counts: Counter[str], truth: dict[str, int], growth: dict[str, float | None]) -> None:
    """What the station saw against what happened; the frame that showed that the camera is there is no part.

    Raises:
        StressError: a frame is not accounted for, or memory grows.
    """
    lost = truth["dropped"] + truth["underruns"]
    known = {"parts": (parts, truth["exposures"]), "incomplete": (counts["incomplete"], truth["incomplete"])}
    known["lost"] = (counts["lost"], lost)
    for what, (seen, happened) in known.items():
        if abs(seen - happened) > FRAMES_BETWEEN:
            raise StressError(f"{what}: {seen} seen, {happened} in truth ({dict(counts)}, {truth})")
    for who, per_million in growth.items():
        if per_million is not None and per_million > MOST_GROWTH_MB:
            raise StressError(f"the memory of the {who} process grows by {per_million:.1f} MB in a million frames")
