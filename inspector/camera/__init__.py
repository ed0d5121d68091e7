"""Where frames come from. `Camera` is the seam: GenICam, video, folder replay, the simulated line stand behind it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from inspector.camera.settings import CameraConfig, FolderCamera, GenicamCamera, VideoCamera
from inspector.inspection import NO_RECIPE, Frame, Image, RecipeId

IDLE_S = 0.1
MOST_LOST = 1000  # parts in one gap; more is no gap but a camera that counts wrongly

# The image of a part that passed but whose picture was lost or is unreadable: it keeps its place in the sequence,
# no engine accepts it, and so the part becomes a fault.
NO_PICTURE: Image = np.zeros((0, 0, 1), np.uint8)


@dataclass(frozen=True, slots=True)
class Outage:
    """The camera is away for now, and no part can be inspected; the text says why and what to do."""

    reason: str


Event = Frame | Outage | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A part that somebody says is in front of the camera now."""

    token: int  # comes back in the part's decision
    part_id: str
    encoder: int = 0
    asked_ns: int = 0  # time.monotonic_ns() when the part was there; 0: not known
    admitted_ns: int = 0  # time.monotonic_ns() when the station took the trigger
    recipe: RecipeId = NO_RECIPE  # that whoever asks thinks is active; number 0: whichever is

    def frame(self, sequence: int, image: Image, captured_ns: int) -> Frame:
        """The picture that was asked for."""
        return Frame(
            sequence, self.part_id, image, captured_ns, self.token, self.encoder, self.asked_ns, self.admitted_ns
        )


class Camera(Protocol):
    """A source of frames, opened as a context manager and iterated by the loop.

    While it waits for a part it yields None at least every `IDLE_S`: the camera answers and no part came. That is the
    only sign of life of an idle line, so it is never given by a timer that does not know the camera.
    A camera that comes back by itself yields an `Outage` at least once a second until it is there again.
    Iteration ends when the source is exhausted (a replayed folder); a real camera never ends. A camera that fails for
    good raises `CameraError`, whose text names the camera and what to do.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __iter__(self) -> Iterator[Event]: ...
    def expose(
        self, trigger: Trigger
    ) -> None: ...  # from any thread; a camera that takes no triggers raises CameraError


class Untriggered:
    """A camera that nobody can ask for a part."""

    def expose(self, trigger: Trigger) -> None:
        """Refuse.

        Raises:
            CameraError: always.
        """
        raise CameraError(f'part {trigger.part_id} cannot be exposed: take a camera with trigger = "software"')


class CameraError(Exception):
    """The camera cannot deliver frames; the text names the camera and what to do."""


def open_camera(config: CameraConfig, *, bit_depth: int = 8, stop: Callable[[], bool] = lambda: False) -> Camera:
    """Make the camera that the station names; it opens when it is entered.

    Args:
        config: the station's camera.
        bit_depth: of image files' samples, from the bundle's manifest; more than 8 are shifted down to 8. A camera's
            frames are shifted by what their own pixel format says.
        stop: ends the wait for a camera that takes long to open.
    """
    if isinstance(config, GenicamCamera):
        from inspector.camera.genicam import GenicamFeed

        return GenicamFeed(config, stop=stop)
    if isinstance(config, VideoCamera):
        from inspector.camera.video import VideoFeed

        return VideoFeed(config)
    if isinstance(config, FolderCamera):
        from inspector.camera.folder import FolderReplay

        triggered = config.trigger == "software"
        return FolderReplay(
            config.folder, rate_hz=config.rate_hz, loop=config.loop, bit_depth=bit_depth, triggered=triggered
        )
    from inspector.camera.simulator import SimulatedLine

    return SimulatedLine(rate_hz=config.rate_hz, fault_rate=config.fault_rate, seed=config.seed, parts=config.parts)


def idle_until(
    due_ns: int,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Wait until the clock shows due_ns, yielding None at least every `IDLE_S` on the way."""
    while (left_s := (due_ns - clock()) / 1e9) > 0:
        sleep(min(left_s, IDLE_S))
        if left_s > IDLE_S:
            yield None
