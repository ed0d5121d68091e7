"""Runs frames from a folder through the real loop and collects what a subscriber hears."""

import tempfile
from pathlib import Path

from inspector.bundle import load_bundle
from inspector.bus import Publisher, Subscriber
from inspector.camera.folder import FolderReplay
from inspector.engine import open_engine
from inspector.heartbeat import Heartbeat, Job
from inspector.messages import Result
from inspector.run import inspect
from inspector.service import Service
from inspector.station import Bus

PATIENCE_MS = 10_000

Decided = dict[str, str | int | float | None]


def replay(frames: Path, bundle_folder: Path) -> list[Decided]:
    """Give sequence, part, verdict, score and reason of every part, as they came over the bus."""
    bundle = load_bundle(bundle_folder)
    with tempfile.TemporaryDirectory(prefix="insp-") as folder:
        bus = Bus.model_validate({topic: f"ipc://{folder}/{topic}" for topic in Bus.model_fields})
        with (
            Publisher(bus, "replay") as publisher,
            Heartbeat(publisher, Service()) as heartbeat,
            Subscriber(bus, ("result",)) as subscriber,
            open_engine("onnxruntime-cpu", bundle) as engine,
            FolderReplay(frames) as camera,
        ):
            if not publisher.listeners("result", PATIENCE_MS):
                raise TimeoutError("the subscriber did not connect")
            threshold = bundle.manifest.threshold.value
            job = Job("replay", bundle.manifest.bundle_id, engine.name, threshold, deadline_ms=60_000)
            parts = inspect(camera, engine, job, publisher, heartbeat).parts
            return [_decided(subscriber) for _ in range(parts)]


def _decided(subscriber: Subscriber) -> Decided:
    result = subscriber.receive(PATIENCE_MS)
    if not isinstance(result, Result):
        raise TimeoutError(f"instead of a result came {result}")
    score = None if result.score is None else round(result.score, 6)
    return {
        "sequence": result.sequence,
        "part_id": result.part_id,
        "verdict": str(result.verdict),
        "score": score,
        "reason": result.reason,
    }
