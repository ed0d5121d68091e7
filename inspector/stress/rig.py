"""A simulated camera with parts in front of it, and the station's end of it: what every measurement stands on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event as Flag
from threading import Thread
from typing import TypeAlias, TypeGuard

import numpy as np

from inspector.camera import Event
from inspector.camera.genicam import GenicamFeed
from inspector.camera.gentl.stage import Stage
from inspector.camera.settings import SIMULATED_PRODUCER, GenicamCamera
from inspector.inspection import Frame, Image

WIDTH, HEIGHT = 1280, 1024
SERIAL = "STRESS"
PATIENCE_S = 60.0
Progress: TypeAlias = Callable[[str, int, int], None]
Row: TypeAlias = dict[str, object]


class StressError(Exception):
    """The camera path did not do what it must; the text says what."""


@contextmanager
def camera_stage(
    width: int = WIDTH, height: int = HEIGHT, *, numbered: bool = False, **switches: int
) -> Iterator[Stage]:
    """A camera with parts in front of it as fast as it takes them; numbered ones carry their number in their pixels."""
    ended = Flag()
    with Stage(SERIAL, width, height, serial=SERIAL) as stage:
        for name, value in switches.items():
            setattr(stage, name, value)
        feeder = Thread(target=_show_parts, args=(stage, (height, width, 3), numbered, ended))
        feeder.start()
        try:
            yield stage
        finally:
            ended.set()
            feeder.join()


def _show_parts(stage: Stage, shape: tuple[int, int, int], numbered: bool, ended: Flag) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    for number in count():
        picture: Image = pictures[number % len(pictures)]
        if numbered:
            picture[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)[:, np.newaxis]
        while not stage.show(picture, timeout_s=0.1):
            if ended.is_set():
                return


@contextmanager
def camera_feed(*, trigger: str, rate_hz: float | None = None, **features: object) -> Iterator[GenicamFeed]:
    """The station's end of that camera, with such features set."""
    config = GenicamCamera.model_validate(
        {
            "kind": "genicam", "producer": SIMULATED_PRODUCER, "serial": SERIAL, "trigger": trigger,
            "rate_hz": rate_hz, "features": features,
        }
    )  # fmt: skip
    with GenicamFeed(config) as feed:
        yield feed


def has_picture(event: Event) -> TypeGuard[Frame]:
    """Whether it is a part that can be inspected."""
    return isinstance(event, Frame) and event.image.size > 0


def next_frame(events: Iterator[Event]) -> Frame:
    """The next one with a picture.

    Raises:
        StressError: none comes.
    """
    until = time.monotonic() + PATIENCE_S
    for event in events:
        if has_picture(event):
            return event
        require(time.monotonic() < until, f"no frame within {PATIENCE_S:.0f} s")
    raise StressError("the camera ended")


def require(condition: bool, otherwise: str) -> None:
    """Or the camera path did not do what it must.

    Raises:
        StressError: so it is.
    """
    if not condition:
        raise StressError(otherwise)
