"""Another recipe while the station runs: taken whole, or refused and the old one stays."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from inspector import changeover as module
from inspector.bundle import SELF_TEST_IMAGE, InputSpec, SelfTest, Threshold
from inspector.bus import Publisher
from inspector.camera import Trigger
from inspector.camera.settings import FolderCamera
from inspector.changeover import Changeover, Loaded, load, recipe_at_start
from inspector.control import Changed, NotDoneError
from inspector.heartbeat import Heartbeat
from inspector.inspection import Cause, Frame, RecipeId, Refusal, Verdict
from inspector.journal import Journal, last_recipe, read_all
from inspector.messages import Result
from inspector.run import inspect
from inspector.service import Service
from inspector.station import Bus, Recipe, Station, StationError

from .test_run import Disk
from .tiny import build_bundle, part

STRICT = Threshold(
    value=0.01, false_reject_target=0.01, confidence=0.95, method="", validation_images=1, shown_false_reject_rate=1.0
)
FAIR, BRIGHTER = part(100), part(110)  # the strict recipe rejects the second


@pytest.fixture
def station(tmp_path: Path, bus: Bus) -> Station:
    made = {
        1: build_bundle(tmp_path / "fair"),
        2: build_bundle(tmp_path / "strict", threshold=STRICT),
        3: build_bundle(tmp_path / "damaged"),
        4: build_bundle(tmp_path / "large", input=InputSpec(height=None, width=None, channels=3, bit_depth=12)),
        5: build_bundle(tmp_path / "foreign", self_test=SelfTest(image=SELF_TEST_IMAGE, score=0.9, tolerance=1e-4)),
    }
    (made[3] / "model.onnx").write_bytes(b"cut short")
    recipes = [Recipe(name=f"tray {number}", bundle=bundle, number=number) for number, bundle in made.items()]
    return Station(
        name="line1",
        camera=FolderCamera(kind="folder", folder=tmp_path),
        recipe=recipes[0],
        recipes=tuple(recipes[1:]),
        bus=bus,
        deadline_ms=10_000,
        journal=tmp_path / "journal.sqlite",
    )


@dataclass
class Running:
    """A changeover and what stands around it."""

    changeover: Changeover
    journal: Journal
    station: Station

    def settle(self, answer: "Future[Changed]") -> Changed:
        """Serve, as the loop does, until the answer is there."""
        ends = time.monotonic() + 20
        while not answer.done():
            assert time.monotonic() < ends
            self.changeover.serve()
            time.sleep(0.001)
        return answer.result()

    def ask(self, number: int) -> Changed:
        return self.settle(self.changeover.ask(number, "a test"))

    @property
    def active(self) -> RecipeId:
        return self.changeover.job.recipe_id


@pytest.fixture
def running(station: Station) -> Iterator[Running]:
    with Journal(station.journal, reserve_bytes=4096) as journal:
        first = load(station, recipe_at_start(station), journal, "boot", "the start")
        with Changeover(station, first, journal, "boot") as changeover:
            yield Running(changeover, journal, station)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Loading waits until it is set."""
    opened, gate = module._opened, Event()

    def slowly(*arguments: object) -> Loaded:
        assert gate.wait(20)
        return opened(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_opened", slowly)
    return gate


def test_another_recipe_is_taken_and_the_answer_names_it(running: Running) -> None:
    assert running.active == RecipeId(1, 1)
    changed = running.ask(2)
    assert changed == Changed(Refusal.NONE, "", RecipeId(2, 1))
    assert running.changeover.job.threshold == STRICT.value
    assert running.changeover.engine.infer(FAIR).score == pytest.approx(0.0)
    assert last_recipe(running.station.journal) == 2
    assert running.changeover.alarm == ""


@pytest.mark.parametrize(
    ("number", "refusal", "says"),
    [
        (9, Refusal.NO_RECIPE, "has no recipe 9: it has 1 (tray 1), 2 (tray 2)"),
        (3, Refusal.BUNDLE, "model.onnx: was changed or cut short"),
        (5, Refusal.ENGINE, "self-test failed"),
        (4, Refusal.PICTURE, "takes images of 12 bits"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused_and_the_old_one_inspects(
    running: Running, number: int, refusal: Refusal, says: str
) -> None:
    changed = running.ask(number)
    assert (changed.refusal, changed.active) == (refusal, RecipeId(1, 1))
    assert says in changed.text
    assert says in running.changeover.alarm
    assert running.active == RecipeId(1, 1)
    assert running.changeover.engine.infer(FAIR).score == pytest.approx(0.0)
    assert running.changeover.why_not(Frame(0, "p", FAIR, time.monotonic_ns())) == ""
    assert last_recipe(running.station.journal) == 1
    assert running.ask(2).refusal is Refusal.NONE
    assert running.changeover.alarm == ""


def test_a_recipe_that_does_not_take_the_cameras_pictures_is_refused(running: Running) -> None:
    seen = Frame(0, "p", part(100)[:16], time.monotonic_ns())
    running.changeover.why_not(seen)
    changed = running.ask(2)
    assert changed.refusal is Refusal.PICTURE
    assert "has 32 x 16 pixels and the bundle takes 32 x 32" in changed.text


def test_a_change_that_is_not_on_disk_is_none_over_a_restart_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACTIVATE_WITHIN_S", 0.0)
    changed = running.ask(2)
    assert changed.refusal is Refusal.JOURNAL
    monkeypatch.undo()
    assert running.ask(1).refusal is Refusal.NONE
    assert last_recipe(running.station.journal) == 1


def test_one_change_at_a_time(running: Running, gate: Event) -> None:
    first = running.changeover.ask(2, "a test")
    assert running.changeover.changing_to == 2
    assert running.ask(1).refusal is Refusal.BUSY
    gate.set()
    assert running.settle(first).refusal is Refusal.NONE


def test_what_comes_during_a_changeover_is_not_inspected_and_what_came_before_is_while_the_old_one_is_there(
    running: Running, gate: Event
) -> None:
    changeover = running.changeover
    before = changeover.admit(Trigger(1, "before"))
    free_before = Frame(0, "free", FAIR, time.monotonic_ns())
    answer = changeover.ask(2, "a test")
    late_exposure = before.frame(1, FAIR, time.monotonic_ns())
    during = Frame(2, "free", FAIR, time.monotonic_ns())
    assert changeover.why_not(free_before) == ""
    assert changeover.why_not(late_exposure) == ""
    assert changeover.why_not(during) == "recipe 2 is being loaded"
    with pytest.raises(NotDoneError, match="recipe 2 is being loaded"):
        changeover.admit(Trigger(2, "during"))
    gate.set()
    running.settle(answer)
    for old in (free_before, late_exposure, during):
        assert changeover.why_not(old) == "it came before a changeover that has ended"
    assert changeover.why_not(changeover.admit(Trigger(3, "after")).frame(3, FAIR, time.monotonic_ns())) == ""


def test_a_trigger_for_a_recipe_that_is_not_active_is_not_admitted(running: Running) -> None:
    assert running.changeover.admit(Trigger(1, "p", recipe=RecipeId(1, 1))).admitted_ns > 0
    for told in (RecipeId(2, 1), RecipeId(1, 2)):
        with pytest.raises(NotDoneError, match="is not active: it is 1, revision 1"):
            running.changeover.admit(Trigger(1, "p", recipe=told))


def test_the_revision_counts_up_with_bundle_and_threshold_and_with_nothing_else(station: Station) -> None:
    recipe = station.recipe

    def revision(taken: Recipe) -> int:
        with Journal(station.journal, reserve_bytes=4096) as journal, ExitStack() as stack:
            loaded = load(station, taken, journal, "boot", "a test")
            stack.callback(loaded.close)
            return loaded.job.recipe_id.revision

    assert [revision(recipe), revision(recipe)] == [1, 1]
    assert revision(recipe.model_copy(update={"threshold": 0.7})) == 2
    assert revision(station.recipes[0]) == 1
    assert revision(recipe) == 3


def test_a_restart_comes_back_with_the_recipe_that_was_active(running: Running) -> None:
    running.ask(2)
    assert recipe_at_start(running.station).number == 2
    assert recipe_at_start(running.station, chosen=4).number == 4
    alone = running.station.model_copy(update={"recipes": ()})
    assert recipe_at_start(alone).number == 1  # there is no choice
    without = running.station.model_copy(update={"recipes": running.station.recipes[1:]})
    with pytest.raises(StationError, match=r"has no recipe 2.*inspector run --recipe NUMBER"):
        recipe_at_start(without)


def test_the_loop_goes_on_and_judges_each_part_by_its_own_recipe(
    running: Running, gate: Event, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats on while the other recipe is loaded, says what it does, and every decision names its recipe."""
    changeover, disk, said = running.changeover, Disk(works=True), []

    def events() -> Iterator[Frame | None]:
        sequence = iter(range(9))

        def frame() -> Frame:
            return Frame(next(sequence), "p", BRIGHTER, time.monotonic_ns())

        yield frame()
        waiting = frame()
        answer = changeover.ask(2, "a test")
        yield waiting
        yield frame()
        gate.set()
        yield from until(answer.done)
        yield frame()
        refused = changeover.ask(3, "a test")
        yield from until(refused.done)
        yield frame()

    with Publisher(bus, "line1") as publisher, Heartbeat(publisher, Service()) as heartbeat:
        send = publisher._send
        monkeypatch.setattr(publisher, "_send", lambda message: (said.append(message), send(message))[1])
        heartbeat.ready(changeover.job)
        inspect(
            events(), changeover.engine, changeover.job, publisher, heartbeat,
            outbox=disk, changeover=changeover,  # type: ignore[arg-type]
        )  # fmt: skip
    decided = [(kept.verdict, kept.cause, kept.recipe_number) for kept in disk.kept]
    assert decided == [
        (Verdict.ACCEPT, Cause.NONE, 1),
        (Verdict.ACCEPT, Cause.NONE, 1),
        (Verdict.FAULT, Cause.RECIPE, 1),
        (Verdict.REJECT, Cause.THRESHOLD, 2),
        (Verdict.REJECT, Cause.THRESHOLD, 2),
    ]
    states = [(word.state, word.recipe_number, word.changing_to) for word in said if not isinstance(word, Result)]
    assert states[0] == ("ready", 1, 0)
    assert ("not ready", 1, 2) in states
    assert states[-1] == ("stopped", 2, 0)
    assert all(state != "ready" or not changing for state, _, changing in states)
    assert "recipe 2 stays active: " in said[-1].alarm


def until(done: Callable[[], bool]) -> Iterator[None]:
    """An idle camera."""
    ends = time.monotonic() + 20
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.001)
        yield None


def test_an_error_that_nobody_expected_ends_the_process_and_not_the_inspecting(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service manager starts it again, with the recipe that was active."""

    def fails(*_: object) -> Loaded:
        raise MemoryError

    monkeypatch.setattr(module, "_opened", fails)
    with pytest.raises(MemoryError):
        running.ask(2)
    assert last_recipe(running.station.journal) == 1


def test_a_change_that_is_under_way_does_not_hold_the_end(station: Station) -> None:
    with Journal(station.journal, reserve_bytes=4096) as journal:
        first = load(station, station.recipe, journal, "boot", "the start")
        with Changeover(station, first, journal, "boot") as changeover:
            answer = changeover.ask(2, "a test")
    assert not answer.done()
    assert not list(read_all(station.journal))
