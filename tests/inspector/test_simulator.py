"""The simulated line keeps its pace and knows afterwards which part it made faulty."""

import numpy as np
import pytest

from inspector.camera import IDLE_S, Camera, CameraError, open_camera
from inspector.camera.settings import SimulatedCamera
from inspector.camera.simulator import SimulatedLine
from inspector.inspection import Frame
from inspector.sample import FAULTS, render

from .tiny import Clock


def line(clock: Clock, *, parts: int = 4, fault_rate: float = 0.0, seed: int = 0, rate_hz: float = 10) -> SimulatedLine:
    return SimulatedLine(rate_hz=rate_hz, fault_rate=fault_rate, seed=seed, parts=parts, clock=clock, sleep=clock.sleep)


def frames_of(camera: Camera) -> list[Frame]:
    with camera:
        return [frame for frame in camera if frame is not None]


def captured_ms(frames: list[Frame]) -> list[float]:
    return [round((frame.captured_ns - frames[0].captured_ns) / 1e6) for frame in frames]


def test_a_part_comes_at_every_tick_with_sequence_and_part_id(clock: Clock) -> None:
    frames = frames_of(line(clock))
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3]
    assert frames[3].part_id == "SIM-000003"
    assert captured_ms(frames) == [0, 100, 200, 300]


def test_a_loop_within_the_tick_does_not_make_the_line_drift(clock: Clock) -> None:
    frames = []
    with line(clock) as camera:
        for frame in camera:
            if frame:
                frames.append(frame)
                clock.sleep(0.07)
    assert captured_ms(frames) == [0, 100, 200, 300]


def test_the_line_waits_for_a_slow_loop_and_does_not_catch_up(clock: Clock) -> None:
    frames = []
    with line(clock) as camera:
        for frame in camera:
            if frame:
                frames.append(frame)
                clock.sleep(0.35)
    assert captured_ms(frames) == [0, 350, 700, 1050]


def test_a_slow_line_shows_that_it_idles(clock: Clock) -> None:
    with line(clock, parts=2, rate_hz=1) as camera:
        seen = list(camera)
    assert seen.count(None) >= 1 / IDLE_S - 2


def test_the_truth_is_known_afterwards_and_is_what_was_rendered(clock: Clock) -> None:
    camera = line(clock, parts=5, fault_rate=0.5, seed=4)
    frames = frames_of(camera)
    assert np.array_equal(frames[2].image, camera.picture(2))
    truths = [camera.fault(frame.sequence) for frame in frames]
    assert None in truths
    assert {truth for truth in truths if truth} <= set(FAULTS)
    assert np.array_equal(frames[2].image, render(4 * 10**9 + 2, truths[2]).image)
    again = line(clock, fault_rate=0.5, seed=4)
    assert [again.fault(frame.sequence) for frame in frames] == truths


def test_the_rate_of_faults_is_the_one_asked_for(clock: Clock) -> None:
    camera = line(clock, fault_rate=0.2)
    faulty = [camera.fault(number) is not None for number in range(1000)]
    assert 0.16 < np.mean(faulty) < 0.24


@pytest.mark.parametrize(("rate_hz", "fault_rate"), [(0, 0.1), (-1, 0.1), (5, 1.5)])
def test_an_impossible_rate_is_refused(clock: Clock, rate_hz: float, fault_rate: float) -> None:
    with pytest.raises(ValueError, match="needs a rate_hz above 0"):
        line(clock, rate_hz=rate_hz, fault_rate=fault_rate)


def test_a_line_that_is_not_open_says_so(clock: Clock) -> None:
    with pytest.raises(CameraError, match="not open"):
        next(iter(line(clock)))


def test_the_station_opens_the_line() -> None:
    camera = open_camera(SimulatedCamera(kind="simulator", rate_hz=50, fault_rate=0, seed=3, parts=1))
    (frame,) = frames_of(camera)
    assert frame.image.shape == (512, 640, 3)
