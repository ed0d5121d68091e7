"""A station to be campaigned against: its folder, and its process, whose camera sees what stands on the belt.

The process is `python -m inspector.plc.campaign_station STATION DELAY_MS [BUNDLE]`; it runs the real loop, journal and
sockets. Knows neither PLC nor faults.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from typing import Self

import numpy as np

from inspector.bundle import Bundle, load_bundle
from inspector.bus import Publisher
from inspector.camera import IDLE_S, Trigger
from inspector.control import ControlServer
from inspector.decisions import DecisionServer, Outbox
from inspector.engine import Engine, open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.inspection import Frame, Image, Prediction
from inspector.journal import Journal
from inspector.plc.belt import Part
from inspector.run import inspect
from inspector.service import Service, stop_signals
from inspector.station import Station
from inspector.station_file import load_station

SIDE = 256
DEADLINE_MS = 10_000  # the station's; the PLC has its own
BRIGHT, DARK = 200, 50  # a bad part, and a good one or an empty belt: the worse way to err
RESERVE_BYTES = 2 * 2**20

STATION = """\
name = "measured"
deadline_ms = {deadline_ms}
expose_within_ms = {expose_within_ms}
journal = "disk/journal.sqlite"
camera = {{ kind = "folder", folder = ".", trigger = "software" }}
recipe = {{ name = "measured", bundle = "{bundle}" }}
plc = {{ protocol = "modbus", port = {port} }}
"""


class CampaignError(Exception):
    """A result was wrong or did not come, or a station did not come back; the text says which."""


@contextmanager
def station_folder(bundle: Bundle | None, *, expose_within_ms: int) -> Iterator[Path]:
    """A station's file in a folder of its own; its journal will be in the folder `disk` beside it."""
    with tempfile.TemporaryDirectory(prefix="inspector-plc-") as name:
        folder = Path(name)
        (folder / "disk").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = folder / "station.toml"
        where = bundle.folder.absolute() if bundle else folder
        text = STATION.format(bundle=where, port=port, deadline_ms=DEADLINE_MS, expose_within_ms=expose_within_ms)
        path.write_text(text, encoding="utf-8")
        with Scene(scene_of(path)) as scene:
            scene.show(None)
        yield path


def scene_of(station_file: Path) -> Path:
    """The file that says what stands before a station's camera."""
    return station_file.with_name("scene")


def station_command(station_file: Path, delay_ms: float, bundle: Bundle | None) -> list[str]:
    """What starts a station's process."""
    words = [str(station_file), str(delay_ms), *([str(bundle.folder.absolute())] if bundle else [])]
    return [sys.executable, "-m", "inspector.plc.campaign_station", *words]


def bridge_command(station_file: Path) -> list[str]:
    """What starts its bridge."""
    return [sys.executable, "-m", "inspector.cli", "plc", "--station", str(station_file)]


class Scene:
    """What stands before the camera: one byte in a file, so that belt and camera can be in different processes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def show(self, part: Part | None) -> None:
        """Put a part there, or nothing."""
        grey = DARK if part is None or part.good else BRIGHT
        os.pwrite(self._file.fileno(), bytes([grey]), 0)

    def look(self) -> int:
        """Its grey value."""
        return os.pread(self._file.fileno(), 1, 0)[0]


class BeltCamera:
    """Exposes when it is asked, and sees what stands before it then."""

    def __init__(self, scene: Scene, height: int, width: int) -> None:
        self._scene = scene
        self._shape = (height, width, 3)
        self._asked: Queue[Trigger] = Queue()

    def expose(self, trigger: Trigger) -> None:
        """Expose as soon as the picture before is taken."""
        self._asked.put(trigger)

    def __iter__(self) -> Iterator[Frame | None]:
        for sequence in count():
            while (trigger := self._next()) is None:
                yield None
            image: Image = np.full(self._shape, self._scene.look(), np.uint8)
            captured_ns = time.monotonic_ns()
            yield Frame(sequence, trigger.part_id, image, captured_ns, trigger.token, trigger.encoder, trigger.asked_ns)

    def _next(self) -> Trigger | None:
        try:
            return self._asked.get(timeout=IDLE_S)
        except Empty:
            return None  # nobody asked: the loop says that it is alive


class FixedDelay:
    """Takes the place of the engine while the path around it is measured: bright images are rejected, after a delay."""

    name = "fixed delay"

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def infer(self, image: Image) -> Prediction:
        """Wait, and tell dark images from bright ones."""
        time.sleep(self._delay_s)
        return Prediction(float(image[0, 0, 0] > (BRIGHT + DARK) / 2), np.zeros((8, 8), np.float32), {})


def run_station(station: Station, scene: Scene, delay_s: float, bundle: Bundle | None) -> None:
    """Inspect until asked to stop, or until whoever started this process is gone."""
    if bundle is None:
        job = Job("measured", "none", "fixed delay", 0.5, station.deadline_ms, station.expose_within_ms)
        _inspect(station, BeltCamera(scene, SIDE, SIDE), FixedDelay(delay_s), job)
        return
    spec = bundle.manifest.input
    with open_engine("onnxruntime-cpu", bundle) as engine:  # whatever it has learned, each part is accepted
        job = Job(
            "measured", bundle.manifest.bundle_id, engine.name, 1e9, station.deadline_ms, station.expose_within_ms
        )
        _inspect(station, BeltCamera(scene, spec.height or SIDE, spec.width or SIDE), engine, job)


def _inspect(station: Station, camera: BeltCamera, engine: Engine, job: Job) -> None:
    parent = os.getppid()
    with (
        stop_signals() as asked,
        Publisher(station.bus, station.name) as publisher,
        Heartbeat(publisher, Service()) as heartbeat,
        Journal(station.journal, reserve_bytes=RESERVE_BYTES) as journal,
        DecisionServer(station.bus.decision, station.journal, publisher.boot) as server,
        ControlServer(station.bus.control, camera.expose),
    ):
        heartbeat.ready(job)
        stop = lambda: asked() or os.getppid() != parent  # noqa: E731
        inspect(camera, engine, job, publisher, heartbeat, outbox=Outbox(journal, server), stop=stop)


def main() -> None:
    """Run the process."""
    file, delay_ms, *bundles = sys.argv[1:]
    bundle = load_bundle(Path(bundles[0])) if bundles else None
    with Scene(scene_of(Path(file))) as scene:
        run_station(load_station(Path(file)), scene, float(delay_ms) / 1000, bundle)


if __name__ == "__main__":
    main()
