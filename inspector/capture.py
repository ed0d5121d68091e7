"""Collects images of good parts from any camera into a dataset, keeping only those that are worth learning from."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
from rich.console import Console
from rich.live import Live

from inspector.camera import open_camera
from inspector.camera.settings import CameraConfig, GenicamCamera, VideoCamera
from inspector.cameras import Meter, drawn
from inspector.inspection import Frame, Image
from inspector.quality import Screening, quality_of


@dataclass
class Captured:
    """What has become of the camera's frames."""

    kept: int = 0
    refused: int = 0
    advised: int = 0  # of the kept ones, with something wrong with their exposure
    last_objection: str = ""

    def __str__(self) -> str:
        """One line."""
        refused = f", {self.refused} left out (the last: {self.last_objection})" if self.refused else ""
        return f"{self.kept} kept{refused}"


def capture(
    config: CameraConfig,
    folder: Path,
    console: Console,
    *,
    count: int,
    every_s: float = 0.0,
    keep_all: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Captured:
    """Write `count` images as PNG files into a folder; what is there already stays.

    Args:
        config: the camera.
        folder: DATASET/train/good or another; made when it is not there.
        console: shows the camera's picture and what is refused and why.
        count: how many to keep.
        every_s: least seconds between two images.
        keep_all: also those that are blurred or unchanged.
        stop: asked after every frame.

    Raises:
        CameraError: the camera cannot be opened.
        OSError: an image cannot be written; none is left half-written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meter, screening, done = Meter(), Screening(parts_may_stand_still=not _is_triggered(config)), Captured()
    due = 0.0
    with open_camera(config) as camera, Live(console=console, refresh_per_second=8) as live:
        for event in drawn(camera, meter, live, lambda: str(done)):
            if stop() or done.kept >= count:
                break
            if isinstance(event, Frame) and event.image.size and time.monotonic() >= due:
                quality = quality_of(event.image)
                objection = screening.objection(event.image, quality)
                if objection and not keep_all:
                    done.refused += 1
                    done.last_objection = objection
                    continue
                write_whole(folder / _name(event), event.image)
                done.kept += 1
                done.advised += bool(quality.advice)
                due = time.monotonic() + every_s
                live.console.print(f"{done.kept}/{count}  {event.part_id}  {quality.advice or 'fine'}", style="dim")
    return done


def _is_triggered(config: CameraConfig) -> bool:
    """Whether every frame shows another part."""
    if isinstance(config, GenicamCamera):
        return config.trigger != "free-run"
    return not isinstance(config, VideoCamera)


def write_whole(path: Path, image: Image) -> None:
    """Write a PNG file (H, W, C); it is there whole or not at all."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
    encoded, content = cv2.imencode(".png", pixels)
    if not encoded:
        raise OSError(f"{path}: the image cannot be encoded")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content.tobytes())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _name(frame: Frame) -> str:
    """Sorted by time, and never that of another capture."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{frame.part_id}.png"
