"""The whole path with the simulated camera: stage, producer, harvesters, acquisition process, ring, station."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from inspector.camera import CameraError, Event, Outage, Trigger
from inspector.camera.genicam import GenicamFeed
from inspector.camera.gentl import producer_file
from inspector.camera.gentl.stage import Stage
from inspector.camera.settings import GenicamCamera
from inspector.inspection import Frame, Image
from inspector.simulate import pass_by

WIDTH, HEIGHT = 64, 48
PATIENCE_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    try:
        producer_file()
    except CameraError as error:
        pytest.skip(f"the simulated camera cannot be built: {error}")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("INSPECTOR_STAGES", str(tmp_path / "stages"))
    with Stage("TEST", WIDTH, HEIGHT, serial="T1", user_id="line 1") as stage:
        yield stage


def part(number: int) -> Image:
    return np.full((HEIGHT, WIDTH, 3), number, np.uint8)


def show(stage: Stage, *numbers: int) -> None:
    for number in numbers:
        assert stage.show(part(number), timeout_s=5)


@contextmanager
def camera(**settings: object) -> Iterator[tuple[GenicamFeed, Iterator[Event]]]:
    plain: dict[str, object] = {"kind": "genicam", "producer": "simulator", "features": {"PixelFormat": "RGB8"}}
    with GenicamFeed(GenicamCamera.model_validate(plain | settings)) as feed:
        yield feed, iter(feed)


def until(events: Iterator[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    """All events up to the first that is wanted."""
    seen, ends = [], time.monotonic() + PATIENCE_S
    for event in events:
        seen.append(event)
        if wanted(event):
            return seen
        assert time.monotonic() < ends, f"it did not come; the last of {len(seen)} events: {seen[-1]}"
    raise AssertionError("a camera never ends")


def frames(events: Iterator[Event], count: int) -> list[Frame]:
    found = [until(events, lambda event: isinstance(event, Frame))[-1] for _ in range(count)]
    return [event for event in found if isinstance(event, Frame)]


def numbers(seen: list[Frame]) -> list[int | None]:
    """Which part each frame shows; None: it has no picture."""
    return [int(frame.image[0, 0, 0]) if frame.image.size else None for frame in seen]


def is_picture(event: Event) -> bool:
    return isinstance(event, Frame) and event.image.size > 0


def is_outage(event: Event) -> bool:
    return isinstance(event, Outage)


def test_a_line_triggers_each_part_once(stage: Stage) -> None:
    with camera(trigger="hardware", trigger_line="Line1") as (_, events):
        show(stage, 10, 20, 30)
        seen = []
        for _ in range(3):
            stage.pulse(1)
            seen += frames(events, 1)
        stage.pulse(0)  # another line's
        assert [next(events) for _ in range(3)] == [None] * 3
    assert numbers(seen) == [10, 20, 30]
    assert [frame.part_id for frame in seen] == ["T1-000000", "T1-000001", "T1-000002"]
    assert seen[0].image.shape == (HEIGHT, WIDTH, 3)


def test_the_station_triggers_at_its_own_rate(stage: Stage) -> None:
    show(stage, 1, 2, 3, 4, 5)
    with camera(trigger="software", rate_hz=20) as (feed, events):
        seen = frames(events, 5)
    assert numbers(seen) == [1, 2, 3, 4, 5]
    assert (seen[-1].captured_ns - seen[0].captured_ns) / 1e9 >= 4 / 20 - 0.02
    assert feed.exposure_us == 5000


def test_a_frame_is_as_old_as_its_exposure(stage: Stage) -> None:
    """The camera's clock is another, and runs otherwise than the station's."""
    stage.clock_offset_ns, stage.clock_ppm, stage.transport_delay_us = -123_456_789_000, 50.0, 20_000
    show(stage, *range(1, 7))
    with camera(trigger="software", rate_hz=20, features={"ExposureTime": 3000.0}) as (_, events):
        seen = frames(events, 6)
    truth = {exposure.part: exposure.exposed_ns for exposure in stage.exposures()}
    errors_ms = [(frame.captured_ns - truth[index]) / 1e6 for index, frame in enumerate(seen)]
    assert max(abs(error) for error in errors_ms) < 2
    assert all(time.monotonic_ns() > frame.captured_ns for frame in seen)


def test_a_region_of_the_sensor(stage: Stage) -> None:
    picture = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
    stage.show(picture, timeout_s=5)
    with camera(trigger="software", rate_hz=20, region=(8, 4, 32, 16)) as (_, events):
        frame = frames(events, 1)[0]
    assert np.array_equal(frame.image, picture[4:20, 8:40])


def test_padded_lines(stage: Stage) -> None:
    stage.line_padding = 7
    show(stage, 99)
    with camera(trigger="software", rate_hz=20, features={"PixelFormat": "Mono12p"}) as (_, events):
        frame = frames(events, 1)[0]
    assert frame.image.shape == (HEIGHT, WIDTH, 1)
    assert set(np.unique(frame.image)) == {99}


@pytest.mark.parametrize("key", [{"serial": "T1"}, {"user_id": "line 1"}])
def test_a_camera_is_found_by_what_it_is_called(stage: Stage, key: dict[str, str]) -> None:
    show(stage, 77)
    with (
        Stage("OTHER", WIDTH, HEIGHT, serial="T2", user_id="line 2"),
        camera(trigger="software", rate_hz=20, **key) as (_, events),
    ):
        assert numbers(frames(events, 1)) == [77]


def test_a_camera_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTOR_STAGES", str(tmp_path))
    with pytest.raises(CameraError, match="finds no camera: check its power"), camera():
        pass


@pytest.mark.usefixtures("stage")
def test_a_camera_that_another_program_uses_says_so() -> None:
    with (
        camera(trigger="software", rate_hz=1),
        pytest.raises(CameraError, match="cannot be opened: is another program using it"),
        camera(trigger="software", rate_hz=1),
    ):
        pass


def test_an_incomplete_frame_is_a_part_without_a_picture(stage: Stage) -> None:
    stage.incomplete_every = 3
    with camera(trigger="hardware") as (feed, events):
        seen = []
        for number in range(1, 7):
            show(stage, number)
            stage.pulse()
            seen += frames(events, 1)
    assert numbers(seen) == [1, 2, None, 4, 5, None]
    assert feed.counts == {"delivered": 4, "incomplete": 2}


def test_a_frame_lost_on_the_wire_is_a_part_without_a_picture(stage: Stage) -> None:
    stage.drop_every = 3
    with camera(trigger="hardware") as (feed, events):
        for number in (1, 2, 3, 4):
            _expose(stage, number)
        seen = frames(events, 4)
    assert numbers(seen) == [1, 2, None, 4]
    assert [frame.sequence for frame in seen] == [0, 1, 2, 3]
    assert feed.counts == {"delivered": 3, "lost": 1}


def test_a_frame_that_comes_after_its_triggers_time_out_is_not_the_next_parts(stage: Stage) -> None:
    """Each frame takes longer to arrive than the station waits for it: there is always one of the part before."""
    show(stage, 1)
    with camera(trigger="software", rate_hz=8, timeout_ms=100) as (feed, events):
        assert numbers(frames(events, 1)) == [1]
        stage.transport_delay_us = 140_000
        show(stage, *range(2, 8))
        late = until(events, is_outage)[:-1]
        stage.transport_delay_us = 0
        then = until(events, is_picture)[-1]
        truth = {exposure.part: exposure.exposed_ns for exposure in stage.exposures()}
    assert [event.image.size for event in late if isinstance(event, Frame)] == [0, 0, 0]
    assert isinstance(then, Frame)
    shown = int(then.image[0, 0, 0]) - 1
    assert abs(then.captured_ns - truth[shown]) < 2e6
    assert feed.counts["late"] == 3


def test_parts_that_wait_while_the_camera_is_lost_are_still_themselves(stage: Stage) -> None:
    """The station is busy; the camera goes and comes back meanwhile; releases of the old ring come into the new one."""
    with camera(trigger="hardware", buffers=2) as (feed, events):
        for number in (10, 20):
            _expose(stage, number)
        stage.present = False
        time.sleep(0.5)
        stage.present = True
        opens = stage.counters.opens
        until_true(lambda: stage.counters.opens > opens and stage.armed_line == 0)
        for number in (30, 40, 50):
            _expose(stage, number)
        seen = frames(events, 5)
    assert numbers(seen) == [10, 20, 30, 40, None]
    assert feed.counts["overrun"] == 1


def test_parts_lost_before_the_first_frame_are_parts(stage: Stage) -> None:
    stage.drop_every = 1
    with camera(trigger="hardware") as (feed, events):
        for number in (1, 2):
            _expose(stage, number)
        stage.drop_every = 0
        _expose(stage, 3)
        seen = frames(events, 3)
    assert numbers(seen) == [None, None, 3]
    assert feed.counts == {"lost": 2, "delivered": 1}


def _expose(stage: Stage, number: int) -> None:
    """One part passes and breaks the light barrier."""
    show(stage, number)
    exposed = stage.counters.exposures
    stage.pulse()
    until_true(lambda: stage.counters.exposures > exposed)
    time.sleep(0.03)  # out of the exposure, and on its way


def until_true(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)


def test_a_station_that_is_too_slow_loses_parts_and_knows_it(stage: Stage) -> None:
    with camera(trigger="hardware", buffers=2) as (feed, events):
        for number in range(1, 6):
            _expose(stage, number)
        seen = frames(events, 5)
    assert numbers(seen) == [1, 2, None, None, None]
    assert feed.counts == {"delivered": 2, "overrun": 3}


def test_a_camera_that_is_unplugged_on_an_idle_line_is_noticed_and_comes_back(stage: Stage) -> None:
    with camera(trigger="hardware") as (feed, events):
        show(stage, 1)
        stage.pulse()
        before = frames(events, 1)
        stage.present = False
        lost = until(events, is_outage)
        assert "does not answer" in lost[-1].reason  # type: ignore[union-attr]
        assert all(is_outage(event) for event in islice(events, 10))
        stage.present = True
        back = until(events, lambda event: event is None)
        assert not any(isinstance(event, Frame) for event in back)
        show(stage, 2)
        stage.pulse()
        after = frames(events, 1)
    assert numbers(before + after) == [1, 2]
    assert after[0].sequence == 1
    assert feed.counts["outages"] == 1
    assert feed.counts["restarts"] == 0


def test_a_camera_that_stalls_in_free_run_is_away_until_frames_come(stage: Stage) -> None:
    show(stage, *range(1, 6))
    with camera(trigger="free-run", rate_hz=20, timeout_ms=300) as (_, events):
        until(events, is_picture)
        stage.stalled = True
        lost = until(events, is_outage)
        assert "has sent no frame" in lost[-1].reason  # type: ignore[union-attr]
        assert all(is_outage(event) for event in islice(events, 8))
        stage.stalled = False
        show(stage, *range(6, 12))
        back = until(events, is_picture)
    assert set(map(type, back[:-1])) <= {Outage, type(None)}


def test_a_producer_that_crashes_takes_its_process_only(stage: Stage) -> None:
    with camera(trigger="hardware") as (feed, events):
        first = feed.pid
        stage.abort = True
        lost = until(events, is_outage)
        assert "was killed by signal 6" in lost[-1].reason  # type: ignore[union-attr]
        until(events, lambda event: event is None)
        show(stage, 8)
        stage.pulse()
        assert numbers(frames(events, 1)) == [8]
        assert feed.pid != first
    assert feed.counts["restarts"] == 1


@pytest.mark.slow
def test_a_producer_that_hangs_is_killed_and_replaced(stage: Stage) -> None:
    with camera(trigger="hardware") as (feed, events):
        first = feed.pid
        stage.hang = True
        lost = until(events, is_outage)
        assert "is silent" in lost[-1].reason  # type: ignore[union-attr]
        until(events, lambda _: feed.pid not in {0, first})
        stage.hang = False
        until(events, lambda event: event is None)
        show(stage, 9)
        stage.pulse()
        assert numbers(frames(events, 1)) == [9]


def test_a_service_manager_that_ends_all_processes_does_not_take_the_camera_first(stage: Stage) -> None:
    with camera(trigger="hardware") as (feed, events):
        os.kill(feed.pid, signal.SIGTERM)
        assert all(event is None for event in islice(events, 5))
    assert not stage.acquiring


def test_a_short_hang_is_an_outage_that_ends_by_itself(stage: Stage) -> None:
    with camera(trigger="hardware") as (feed, events):
        first = feed.pid
        stage.hang = True
        until(events, is_outage)
        stage.hang = False
        until(events, lambda event: event is None)
        assert not any(is_outage(event) for event in islice(events, 5))
        assert feed.pid == first


def test_nothing_is_left_behind(stage: Stage) -> None:
    rings = Path("/dev/shm")  # noqa: S108
    before = set(rings.iterdir())
    with camera(trigger="software", rate_hz=50) as (feed, events):
        show(stage, 1)
        frames(events, 1)
        pid = feed.pid
    assert set(rings.iterdir()) == before
    assert not Path(f"/proc/{pid}").exists()


def test_parts_that_pass_by_are_seen_in_their_order(stage: Stage) -> None:
    with camera(trigger="hardware") as (_, events):
        assert pass_by(stage, (part(number) for number in range(1, 6)), rate_hz=50) == 5
        assert numbers(frames(events, 5)) == [1, 2, 3, 4, 5]


def test_parts_that_are_asked_for_are_theirs(stage: Stage) -> None:
    with camera(trigger="software") as (feed, events):
        assert next(events) is None
        show(stage, 1, 2, 3)
        for token in (11, 12, 13):
            feed.expose(Trigger(token, f"P-{token}", 100 + token))
        seen = frames(events, 3)
    assert [(frame.part_id, frame.trigger, frame.encoder) for frame in seen] == [
        ("P-11", 11, 111), ("P-12", 12, 112), ("P-13", 13, 113),
    ]  # fmt: skip
    assert numbers(seen) == [1, 2, 3]


def test_parts_that_are_asked_for_while_the_camera_is_away_are_answered_without_a_picture(stage: Stage) -> None:
    with camera(trigger="software", timeout_ms=300) as (feed, events):
        next(events)
        stage.stalled = True
        feed.expose(Trigger(1, "late"))
        stage.present = False
        until(events, is_outage)
        feed.expose(Trigger(2, "away"))
        gone = frames(events, 1)
        stage.stalled = False
        stage.present = True
        until(events, lambda event: event is None)
        show(stage, 9)
        feed.expose(Trigger(3, "back"))
        back = frames(events, 1)
    assert [(frame.part_id, frame.trigger) for frame in gone + back] == [("away", 2), ("back", 3)]
    assert numbers(gone + back) == [None, 9]
    assert back[0].sequence == 2  # "late" was answered before the outage was told


def test_a_camera_that_something_else_triggers_refuses(stage: Stage) -> None:
    assert stage
    with camera(trigger="hardware") as (feed, _), pytest.raises(CameraError, match="takes no triggers"):
        feed.expose(Trigger(1, "P"))
