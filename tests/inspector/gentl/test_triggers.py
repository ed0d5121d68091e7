"""When the camera exposes: in free run, by software, by a line; and what it does when nothing lies before it."""

import time
from pathlib import Path

import numpy as np
import pytest

from inspector.camera.gentl.stage import Stage

from .client import acquirer, configure, fetched, frame_ids, until

SIDE = 16


def picture(number: int) -> np.ndarray:
    return np.full((SIDE, SIDE), number, np.uint8)


def grey_stage(slots: int = 8) -> Stage:
    return Stage("a", SIDE, SIDE, channels=1, slots=slots)


def intervals_ms(stage: Stage) -> np.ndarray:
    return np.diff([exposure.exposed_ns for exposure in stage.exposures()]) / 1e6


def test_free_run_shows_every_picture_once(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        for number in range(8):
            stage.show(picture(number), 1)
        camera.start()
        assert [int(fetched(camera)[0]) for _ in range(8)] == list(range(8))
        assert fetched(camera, timeout=0.05) is None
        assert stage.counters.exposures == 8
        stage.show(picture(99), 1)
        assert int(fetched(camera)[0]) == 99


def test_free_run_keeps_its_rate(producer: Path) -> None:
    with grey_stage(slots=40) as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, AcquisitionFrameRateEnable=True, AcquisitionFrameRate=200.0, ExposureTime=100.0)
        for number in range(40):
            stage.show(picture(number), 1)
        camera.start()
        frame_ids(camera, 40)
        assert np.median(intervals_ms(stage)) == pytest.approx(5, rel=0.2)
        assert intervals_ms(stage).sum() > 0.95 * 39 * 5  # a busy machine is late, never early


def test_without_a_rate_the_exposure_sets_the_pace(producer: Path) -> None:
    with grey_stage(slots=20) as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, ExposureTime=8000.0)
        for number in range(20):
            stage.show(picture(number), 1)
        camera.start()
        frame_ids(camera, 20)
        assert intervals_ms(stage).min() >= 8
        assert np.median(intervals_ms(stage)) < 16


def test_a_single_frame_is_one(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        for number in range(6):
            stage.show(picture(number), 1)
        configure(camera, AcquisitionMode="SingleFrame", ExposureTime=50.0)
        camera.start()
        assert int(fetched(camera)[0]) == 0
        assert fetched(camera, timeout=0.05) is None
        camera.stop()
        configure(camera, AcquisitionMode="MultiFrame", AcquisitionFrameCount=2)
        camera.start()
        assert frame_ids(camera, 2) == [1, 2]
        assert fetched(camera, timeout=0.05) is None


def test_a_software_trigger_exposes_the_next_picture(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Software", ExposureTime=5000.0)
        stage.show(picture(1), 1)
        stage.show(picture(2), 1)
        camera.start()
        assert fetched(camera, timeout=0.05) is None
        for number in (1, 2):
            camera.remote_device.node_map.TriggerSoftware.execute()
            assert int(fetched(camera)[0]) == number
        assert stage.counters.missed_triggers == 0


def test_a_trigger_without_a_new_picture_repeats_the_last(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Software")
        camera.start()
        trigger = camera.remote_device.node_map.TriggerSoftware
        trigger.execute()
        assert int(fetched(camera).max()) == 0  # darkness: nothing was ever shown
        stage.show(picture(7), 1)
        for _ in range(2):
            trigger.execute()
            assert int(fetched(camera)[0]) == 7
        assert stage.counters.repeated == 2
        assert [exposure.part for exposure in stage.exposures()] == [None, 0, 0]


def test_a_trigger_during_an_exposure_is_missed(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Software", ExposureTime=250000.0)
        trigger = camera.remote_device.node_map.TriggerSoftware
        trigger.execute()  # before the acquisition
        camera.start()
        trigger.execute()
        assert until(lambda: stage.counters.exposures == 1)
        trigger.execute()
        assert frame_ids(camera, 1) == [1]
        assert stage.counters.missed_triggers == 2
        trigger.execute()
        assert frame_ids(camera, 1) == [2]


@pytest.mark.parametrize("line", [0, 1])
def test_a_pulse_exposes(producer: Path, line: int) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource=f"Line{line}", TriggerActivation="RisingEdge")
        stage.show(picture(3), 1)
        stage.pulse(line)  # nobody listens
        assert (stage.acquiring, stage.armed_line) == (False, None)
        camera.start()
        assert (stage.acquiring, stage.armed_line) == (True, line)
        assert fetched(camera, timeout=0.05) is None
        pulsed_ns = time.monotonic_ns()
        stage.pulse(line)
        stage.pulse(1 - line)
        assert int(fetched(camera)[0]) == 3
        assert stage.counters.missed_triggers == 2
        assert 0 < stage.exposures()[0].exposed_ns - pulsed_ns < 10**9
        camera.stop()
        assert (stage.acquiring, stage.armed_line) == (False, None)


def test_a_pulse_during_an_exposure_is_missed(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Line0", ExposureTime=250000.0)
        camera.start()
        stage.pulse()
        assert until(lambda: stage.counters.exposures == 1)
        stage.pulse()
        stage.pulse()
        assert frame_ids(camera, 1) == [1]
        assert stage.counters.missed_triggers == 2
        stage.pulse()
        assert frame_ids(camera, 1) == [2]
        assert stage.counters.missed_triggers == 2


def test_the_trigger_can_change_while_it_acquires(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Line0")
        camera.start()
        configure(camera, TriggerSource="Line1")
        stage.pulse(1)
        assert frame_ids(camera, 1) == [1]
        stage.show(picture(1), 1)
        configure(camera, TriggerMode="Off")
        assert frame_ids(camera, 1) == [2]


def test_an_exposure_is_given_up_when_the_acquisition_stops(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, ExposureTime=1000000.0)
        stage.show(picture(1), 1)
        camera.start()
        assert until(lambda: stage.counters.exposures == 1)
        camera.stop()
        assert stage.counters.delivered == 0
        stage.show(picture(2), 1)
        configure(camera, ExposureTime=5000.0)
        camera.start()
        assert frame_ids(camera, 1) == [1]
