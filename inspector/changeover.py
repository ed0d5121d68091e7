"""Another recipe while the station runs: loaded and tried beside the one that inspects, then put in its place.

All that takes long happens in a thread. The hashes, ONNX Runtime's loading and its inferences do not hold the GIL (the
loop's longest pause meanwhile was 6 ms), and an engine that another process had loaded could not be handed over. Both
bundles are in memory until the old one is let go of. Nothing is inspected meanwhile but the parts that came before.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Lock
from typing import Self

from inspector.bundle import Bundle, BundleError, load_bundle
from inspector.bus import BusError
from inspector.camera import IDLE_S, Trigger
from inspector.camera.settings import FolderCamera
from inspector.control import Answer, Changed, ControlClient, NotDoneError
from inspector.engine import Engine, EngineError, open_engine
from inspector.heartbeat import Job
from inspector.inspection import Frame, Image, RecipeId, Refusal
from inspector.journal import Activation, Journal, JournalError, last_recipe
from inspector.messages import utc_text
from inspector.station import Recipe, Station, StationError, recipe_of

ACTIVATE_WITHIN_S = 5.0  # a change is on disk, or is none
THERE_WITHIN_S = 2.0
ANSWER_WITHIN_S = 60.0

log = logging.getLogger(__name__)


class RecipeError(Exception):
    """The recipe cannot be made active; the text says why and what to do."""

    def __init__(self, refusal: Refusal, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recipe that parts can be inspected with; whoever has it closes it."""

    bundle: Bundle
    engine: Engine
    job: Job
    close: Callable[[], None]


def recipe_at_start(station: Station, chosen: int | None = None) -> Recipe:
    """The chosen recipe, or the one that was active last, as a restart changes no product; at first, [recipe].

    A station with one recipe has no choice. One whose last recipe is gone from its file does not start: what is on the
    belt may be of another product than the others are for.

    Raises:
        StationError: there is no such recipe.
        JournalError: the journal cannot be read.
    """
    number = chosen if chosen is not None else last_recipe(station.journal)
    if number is None or (chosen is None and not station.recipes):
        return station.recipe
    try:
        return recipe_of(station, number)
    except StationError as error:
        raise StationError(f"{error}; or choose one at the start: inspector run --recipe NUMBER") from error


def ask_station(station: Station, number: int) -> Answer:
    """Ask a running station for a recipe and wait for its answer.

    Raises:
        BusError: no station is there, or it said nothing in time.
    """
    with ControlClient(station.bus.control, curve=station.curve) as client:
        ends = time.monotonic() + THERE_WITHIN_S
        while not client.change(number, "a person"):
            if time.monotonic() > ends:
                raise BusError(f"{station.bus.control}: no station is there: start inspector run")
            time.sleep(IDLE_S)
        answer = client.answer(round(ANSWER_WITHIN_S * 1000))
    if answer is None:
        raise BusError(
            f"{station.bus.control}: the station has not answered: inspector watch says which recipe is active"
        )
    return answer


def load(station: Station, recipe: Recipe, journal: Journal, boot: str, asked_by: str) -> Loaded:
    """Verify the bundle, start its engine, run its self-test, and write down that the recipe is active.

    Raises:
        BundleError, EngineError: the bundle cannot be used.
        JournalError: the change is not on disk.
    """
    return _written_down(_opened(station, recipe, None), recipe, journal, boot, asked_by)


def _opened(station: Station, recipe: Recipe, picture: Image | None) -> Loaded:
    """The picture, one of the camera's, is inferred too: only then are parts inspected, and the first not late."""
    bundle = load_bundle(recipe.bundle)
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(station.engine, bundle))
        if picture is not None:
            _try_picture(engine, picture, recipe)
        threshold = bundle.manifest.threshold.value if recipe.threshold is None else recipe.threshold
        job = Job(
            recipe.name,
            bundle.manifest.bundle_id,
            engine.name,
            threshold,
            station.deadline_ms,
            station.expose_within_ms,
            RecipeId(recipe.number, 0),  # the journal knows the revision
            bundle.manifest.model_number,
        )
        return Loaded(bundle, engine, job, stack.pop_all().close)


def _try_picture(engine: Engine, picture: Image, recipe: Recipe) -> None:
    try:
        engine.infer(picture)
    except EngineError as error:
        raise RecipeError(Refusal.PICTURE, f"{recipe.bundle} does not take the camera's pictures: {error}") from error


def _written_down(opened: Loaded, recipe: Recipe, journal: Journal, boot: str, asked_by: str) -> Loaded:
    job = opened.job
    made = Activation(boot, utc_text(time.time()), recipe.number, job.recipe, job.bundle, job.threshold, asked_by)
    revision = journal.activate(made, ACTIVATE_WITHIN_S)
    if revision is None:
        opened.close()
        raise JournalError(
            f"recipe {recipe.number} is not active: that cannot be journalled ({journal.alarm or 'slow'})"
        )
    return replace(opened, job=replace(job, recipe_id=RecipeId(recipe.number, revision)))


@dataclass(frozen=True, slots=True)
class _Change:
    """What is under way."""

    recipe: Recipe
    since_ns: int
    loading: "Future[Loaded]"
    answer: "Future[Changed]"


class Changeover:
    """Which recipe is active, and the change to another one.

    `ask` and `admit` are for the control server's thread, all else for the loop's.
    """

    def __init__(
        self,
        station: Station,
        loaded: Loaded,
        journal: Journal,
        boot: str,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`loaded` is closed on the way out, or when another recipe has taken its place."""
        self._station = station
        self._journal = journal
        self._boot = boot
        self._clock = clock
        self._loaded = loaded
        self._active_ns = clock()
        self._change: _Change | None = None
        self._picture: Image | None = None  # the camera's last one
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="changeover")
        self.alarm = ""  # why the last change was refused

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._worker.shutdown(cancel_futures=True)
        loading = self._change.loading if self._change is not None else None
        if loading is not None and not loading.cancelled() and loading.exception() is None:
            loading.result().close()
        self._loaded.close()

    @property
    def engine(self) -> Engine:
        """Of the active recipe."""
        return self._loaded.engine

    @property
    def job(self) -> Job:
        """Of the active recipe."""
        return self._loaded.job

    @property
    def changing_to(self) -> int:
        """The number of the recipe that is being loaded; 0: none."""
        change = self._change
        return change.recipe.number if change is not None else 0

    def ask(self, number: int, asked_by: str) -> "Future[Changed]":
        """Begin to change; the answer comes when the recipe is active, or is not going to be. Never blocks."""
        answer: Future[Changed] = Future()
        with self._lock:
            if self._change is not None:
                answer.set_result(self._refused(Refusal.BUSY, f"recipe {self.changing_to} is being loaded: ask later"))
                return answer
            try:
                recipe = recipe_of(self._station, number)
            except StationError as error:
                answer.set_result(self._refused(Refusal.NO_RECIPE, str(error)))
                return answer
            log.info("recipe %d (%s) is asked for by %s", number, recipe.name, asked_by)
            loading = self._worker.submit(self._load, recipe, self._picture, asked_by)
            self._change = _Change(recipe, self._clock(), loading, answer)
        return answer

    def admit(self, trigger: Trigger) -> Trigger:
        """Take a trigger for the recipe that is active now.

        Raises:
            NotDoneError: none is, or another one than whoever asks was told of.
        """
        with self._lock:
            active = self._loaded.job.recipe_id
            if self._change is not None:
                raise NotDoneError(
                    Refusal.BUSY, f"recipe {self.changing_to} is being loaded: no part is inspected meanwhile"
                )
            if trigger.recipe.number and trigger.recipe != active:
                raise NotDoneError(
                    Refusal.NO_RECIPE,
                    f"recipe {trigger.recipe.number}, revision {trigger.recipe.revision}, is not active: it is "
                    f"{active.number}, revision {active.revision}",
                )
            return replace(trigger, admitted_ns=self._clock())

    def serve(self) -> bool:
        """Put the other recipe in its place once it is ready; call it at least ten times a second.

        Returns:
            whether a change has ended, well or not.
        """
        change = self._change
        if change is None or not change.loading.done():
            return False
        with self._lock:
            try:
                loaded = change.loading.result()
            except RecipeError as error:
                changed = self._refused(error.refusal, str(error))
            else:
                old, self._loaded, self.alarm = self._loaded, loaded, ""
                self._worker.submit(old.close)
                changed = Changed(Refusal.NONE, "", loaded.job.recipe_id)
            self._change, self._active_ns = None, self._clock()
        change.answer.set_result(changed)
        return True

    def why_not(self, frame: Frame) -> str:
        """Why a part is not inspected with the active recipe; empty: it is."""
        if frame.image.size:
            self._picture = frame.image
        change = self._change
        if change is not None and frame.began_ns >= change.since_ns:
            return f"recipe {change.recipe.number} is being loaded"
        if frame.began_ns < self._active_ns:
            return "it came before a changeover that has ended"
        return ""

    def _load(self, recipe: Recipe, picture: Image | None, asked_by: str) -> Loaded:
        try:
            return _written_down(self._fitting(recipe, picture), recipe, self._journal, self._boot, asked_by)
        except BundleError as error:
            raise RecipeError(Refusal.BUNDLE, str(error)) from error
        except EngineError as error:
            raise RecipeError(Refusal.ENGINE, str(error)) from error
        except JournalError as error:
            raise RecipeError(Refusal.JOURNAL, str(error)) from error

    def _fitting(self, recipe: Recipe, picture: Image | None) -> Loaded:
        opened = _opened(self._station, recipe, picture)
        depth, has = opened.bundle.manifest.input.bit_depth, self._loaded.bundle.manifest.input.bit_depth
        if isinstance(self._station.camera, FolderCamera) and depth != has:
            opened.close()
            raise RecipeError(
                Refusal.PICTURE, f"{recipe.bundle} takes images of {depth} bits, and the folder is read with {has}: "
                f"start the station with it, inspector run --recipe {recipe.number}",
            )  # fmt: skip
        return opened

    def _refused(self, refusal: Refusal, text: str) -> Changed:
        active = self._loaded.job.recipe_id
        log.error("recipe %d stays active: %s", active.number, text)
        if refusal is not Refusal.BUSY:  # it says nothing about a recipe
            self.alarm = f"recipe {active.number} stays active: {text}"
        return Changed(refusal, text, active)
