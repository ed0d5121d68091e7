"""Replays a folder of images as if they were parts in front of a camera. Knows no bundle."""

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path
from queue import Empty, Queue
from typing import Self

from inspector.camera import IDLE_S, NO_PICTURE, CameraError, Trigger, idle_until
from inspector.image_file import SUFFIXES, ImageFileError, read_image
from inspector.inspection import Frame, Image

log = logging.getLogger(__name__)


class FolderReplay:
    """The images directly in a folder, sorted by name.

    The replay is never faster than rate_hz, and waits for a loop that is slower. An image that cannot be read keeps
    its place in the sequence without a picture, so that its part becomes a fault.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rate_hz: float | None = None,
        loop: bool = False,
        bit_depth: int = 8,
        triggered: bool = False,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._period_ns = 0 if rate_hz is None else round(1e9 / rate_hz)
        self._loop = loop
        self._bit_depth = bit_depth
        self._asked: Queue[Trigger] | None = Queue() if triggered else None
        self._clock = clock
        self._sleep = sleep
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        if not self._folder.is_dir():
            raise CameraError(f"camera folder {self._folder} does not exist: correct camera.folder in station.toml")
        self._files = sorted(path for path in self._folder.iterdir() if _is_image(path))
        if not self._files:
            kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
            raise CameraError(f"camera folder {self._folder} holds no image: put some there ({kinds})")
        return self

    def __exit__(self, *exc: object) -> None:
        self._files = []

    def expose(self, trigger: Trigger) -> None:
        """Show the next image as the part that somebody says is there.

        Raises:
            CameraError: the replay goes by itself.
        """
        if self._asked is None:
            raise CameraError('this folder is replayed by itself: set camera.trigger = "software" to ask for its parts')
        self._asked.put(trigger)

    def __iter__(self) -> Iterator[Frame | None]:
        return self._replay() if self._asked is None else self._answers(self._asked)

    def _answers(self, asked: "Queue[Trigger]") -> Iterator[Frame | None]:
        for sequence, path in zip(count(), cycle(self._files), strict=False):
            image = self._read(path)
            while (trigger := _next(asked)) is None:
                yield None
            captured_ns = self._clock()
            yield trigger.frame(sequence, image, captured_ns)

    def _replay(self) -> Iterator[Frame | None]:
        due_ns = self._clock()
        for sequence, path in zip(count(), cycle(self._files) if self._loop else self._files, strict=False):
            image = self._read(path)
            yield from idle_until(due_ns, self._clock, self._sleep)
            captured_ns = self._clock()
            due_ns = max(due_ns, captured_ns - self._period_ns) + self._period_ns
            yield Frame(sequence, path.stem, image, captured_ns)

    def _read(self, path: Path) -> Image:
        try:
            return read_image(path, self._bit_depth)
        except ImageFileError as error:
            log.warning("no picture of part %s: %s", path.stem, error)
            return NO_PICTURE


def _next(asked: "Queue[Trigger]") -> Trigger | None:
    try:
        return asked.get(timeout=IDLE_S)
    except Empty:
        return None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
