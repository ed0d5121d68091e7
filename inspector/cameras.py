"""Cameras for people at a terminal: which there are, what they can be set to, what they see and lose right now."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from inspector.camera import Camera, Event, Outage, open_camera
from inspector.camera.genicam import GenicamFeed
from inspector.camera.settings import CameraConfig, GenicamCamera
from inspector.inspection import Frame, Image
from inspector.quality import quality_of

if TYPE_CHECKING:
    from inspector.camera.discovery import Identity

WINDOW_S = 3.0  # over which the rate is taken
REFRESH_HZ = 8
PREVIEW_COLUMNS = 72


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture in a terminal: two pixels in every character."""

    image: Image
    columns: int = PREVIEW_COLUMNS

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the picture as wide as there is room."""
        columns = min(self.columns, options.max_width)
        height, width, channels = self.image.shape
        rows = max(1, round(columns * height / width / 2))
        small = np.asarray(cv2.resize(self.image, (columns, 2 * rows), interpolation=cv2.INTER_AREA))
        pixels = np.broadcast_to(small.reshape(2 * rows, columns, channels), (2 * rows, columns, 3))
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
            for above, below in zip(upper, lower, strict=True):
                yield Segment("▀", Style(color=_colour(above), bgcolor=_colour(below)))
            yield Segment.line()


class Meter:
    """What a camera does, measured frame by frame."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals: deque[float] = deque()
        self.frames = 0
        self.without_picture = 0
        self.outage = ""
        self.last: Frame | None = None
        self.age_ms = 0.0  # of the last frame on arrival

    def add(self, event: Event) -> None:
        """Take note of what the camera gave."""
        self.outage = event.reason if isinstance(event, Outage) else ""
        if not isinstance(event, Frame):
            return
        if event.image.size == 0:
            self.without_picture += 1
            return
        self.frames += 1
        self.age_ms = (time.monotonic_ns() - event.captured_ns) / 1e6
        self.last = event
        self._arrivals.append(self._clock())

    def rate_hz(self) -> float:
        """Frames a second over the last `WINDOW_S`."""
        while self._arrivals and self._arrivals[0] < self._clock() - WINDOW_S:
            self._arrivals.popleft()
        if len(self._arrivals) < 2:
            return 0.0
        return (len(self._arrivals) - 1) / (self._arrivals[-1] - self._arrivals[0])


def table_of(cameras: "list[Identity]") -> Table:
    """The cameras, a row each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("vendor", "model", "serial", "user id", "ip", "transport", "access", "producer"):
        table.add_column(heading, overflow="fold")
    for camera in cameras:
        table.add_row(
            camera.vendor, camera.model, camera.serial, camera.user_id, camera.ip, camera.transport, camera.access,
            Path(camera.producer).name,
        )  # fmt: skip
    return table


def show_features(config: GenicamCamera, console: Console) -> None:
    """Print every setting of a camera with its value and what it takes; changes none.

    Raises:
        CameraError: the camera cannot be opened.
    """
    from inspector.camera.device import settings_of
    from inspector.camera.discovery import apart

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("feature", "value", "takes"):
        table.add_column(heading, overflow="fold")
    for name, value, takes in apart(settings_of, config):
        table.add_row(name, value, takes)
    console.print(table)


def show_live(config: CameraConfig, console: Console, stop: Callable[[], bool], seconds: float | None = None) -> Meter:
    """Show what a camera sees, how fast, and what it loses, until asked to stop or for so many seconds.

    Raises:
        CameraError: the camera cannot be opened.
    """
    meter = Meter()
    ends = time.monotonic() + (seconds if seconds is not None else float("inf"))
    with open_camera(config) as camera, Live(console=console, refresh_per_second=REFRESH_HZ, transient=False) as live:
        for _ in drawn(camera, meter, live):
            if stop() or time.monotonic() > ends:
                break
        live.update(panel(meter, camera))
    return meter


def drawn(camera: Camera, meter: Meter, live: Live, note: Callable[[], str] = lambda: "") -> Iterator[Event]:
    """The camera's events, measured, with the panel redrawn a few times a second."""
    next_drawing = 0.0
    for event in camera:
        meter.add(event)
        if time.monotonic() >= next_drawing:
            live.update(panel(meter, camera, note()))
            next_drawing = time.monotonic() + 1 / REFRESH_HZ
        yield event


def panel(meter: Meter, camera: Camera, note: str = "") -> Group:
    """Picture, figures, and a note."""
    lines: list[Text | Preview] = []
    if meter.last is not None:
        image = meter.last.image
        quality = quality_of(image)
        height, width, _ = image.shape
        lines += [
            Preview(image),
            Text(f"{meter.last.part_id}  {width} x {height}  {meter.rate_hz():.1f}/s  {meter.age_ms:.1f} ms old"),
            Text(
                f"sharpness {quality.sharpness:.0f}  brightness {quality.mean:.0f} of 255  dark {quality.dark:.1%}  "
                f"glaring {quality.bright:.1%}{_exposure(camera)}"
            ),
        ]
        if quality.advice:
            lines.append(Text(quality.advice, style="yellow"))
    lines.append(Text(f"{meter.frames} frames, {meter.without_picture} parts without a picture{_losses(camera)}"))
    if note:
        lines.append(Text(note))
    if meter.outage:
        lines.append(Text(f"AWAY: {meter.outage}", style="bold yellow"))
    return Group(*lines)


def _losses(camera: Camera) -> str:
    if not isinstance(camera, GenicamFeed):
        return ""
    told = ", ".join(f"{number} {what}" for what, number in camera.counts.items() if what != "delivered")
    return f": {told}" if told else ""


def _exposure(camera: Camera) -> str:
    if not isinstance(camera, GenicamFeed) or camera.exposure_us is None:
        return ""
    return f"  exposure {camera.exposure_us:g} us"


def _colour(pixel: npt.NDArray[np.uint8]) -> str:
    return f"#{pixel[0]:02x}{pixel[1]:02x}{pixel[2]:02x}"
