"""Tries everything that `run` needs, and says of each thing whether it works and what to do if not."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from inspector.bundle import Bundle, BundleError, describe, load_bundle
from inspector.camera import IDLE_S, CameraError, Outage, open_camera
from inspector.engine import EngineError, open_engine
from inspector.engine.onnxruntime import fit
from inspector.inspection import Frame
from inspector.station import Recipe, Station, StationError
from inspector.station_file import load_station

FRAME_WITHIN_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    what: str
    ok: bool
    text: str


def check(path: Path) -> Iterator[Finding]:
    """Try the config, the bundle, the engine and the camera; one that fails does not hide the next."""
    station, finding = _try("station", lambda: _station(path))
    yield finding
    if station is None:
        return
    bundle = yield from _recipe(station, station.recipe)
    for recipe in station.recipes:
        yield from _recipe(station, recipe)
    frame, finding = _try("camera", lambda: _camera(station, bundle))
    yield finding
    if bundle is not None and frame is not None:
        yield _try("frame", lambda: (fit(frame.image, bundle.manifest), "the camera's frames fit the bundle"))[1]


def _try(what: str, act: Callable[[], tuple[T, str]]) -> tuple[T | None, Finding]:
    try:
        result, text = act()
    except (StationError, BundleError, EngineError, CameraError) as error:
        return None, Finding(what, False, str(error))
    return result, Finding(what, True, text)


def _station(path: Path) -> tuple[Station, str]:
    station = load_station(path)
    return station, f"{path}: {station.name}"


def _recipe(station: Station, recipe: Recipe) -> Generator[Finding, None, Bundle | None]:
    which = f"recipe {recipe.number}: " if station.recipes else ""
    bundle, finding = _try("bundle", lambda: _bundle(recipe))
    yield replace(finding, text=which + finding.text)
    if bundle is None:
        yield Finding("engine", False, f"{which}not tried: it needs the bundle")
        return None
    finding = _try("engine", lambda: _engine(station, bundle))[1]
    yield replace(finding, text=which + finding.text)
    return bundle


def _bundle(recipe: Recipe) -> tuple[Bundle, str]:
    bundle = load_bundle(recipe.bundle)
    instead = "" if recipe.threshold is None else f"; the recipe rejects above {recipe.threshold:.4g} instead"
    return bundle, describe(bundle.manifest) + instead


def _engine(station: Station, bundle: Bundle) -> tuple[None, str]:
    with open_engine(station.engine, bundle) as engine:
        return None, f"{engine.name}: the self-test's score is as expected"


def _camera(station: Station, bundle: Bundle | None) -> tuple[Frame | None, str]:
    bit_depth = bundle.manifest.input.bit_depth if bundle else 8
    with open_camera(station.camera, bit_depth=bit_depth) as camera:
        for event in islice(camera, round(FRAME_WITHIN_S / IDLE_S)):
            if isinstance(event, Outage):
                raise CameraError(event.reason)
            if event is not None:
                height, width, channels = event.image.shape
                return event, f"part {event.part_id}, {width} x {height}, {'RGB' if channels == 3 else 'grey'}"
    return None, f"answers, but no part came within {FRAME_WITHIN_S:.0f} s"
