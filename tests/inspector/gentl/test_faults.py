"""What goes wrong with cameras, switched on the stage."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from inspector.camera.gentl.stage import Stage

from .client import (
    abandon,
    acquirer,
    configure,
    fetched,
    frame_ids,
    gentl,
    harvester,
    opened,
    process,
    started,
    until,
)

SIDE = 16
PICTURE = np.full((SIDE, SIDE), 50, np.uint8)

ACQUIRE = """
import sys
from inspector.camera.gentl.stage import attach
with attach("a") as stage, acquirer(Path(sys.argv[1]), stage.serial) as camera:
    configure(camera, ExposureTime=100.0, TriggerMode="On", TriggerSource="Software")
    camera.start()
    trigger = camera.remote_device.node_map.TriggerSoftware
    trigger.execute()
    print(fetched(camera) is not None, flush=True)
"""


def grey_stage(slots: int = 8) -> Stage:
    return Stage("a", SIDE, SIDE, channels=1, slots=slots)


def test_an_unplugged_camera_vanishes(producer: Path) -> None:
    with grey_stage() as stage, harvester(producer) as consumer:
        stage.present = False
        with pytest.raises(gentl.IoException, match="simulated:a does not answer"):
            consumer.create(0)
        consumer.update()
        assert consumer.device_info_list == []
        stage.present = True
        consumer.update()
        assert len(consumer.device_info_list) == 1


def test_a_camera_lost_while_it_acquires_can_be_opened_again(producer: Path) -> None:
    with grey_stage() as stage, harvester(producer) as consumer:
        camera = consumer.create(0)
        stage.show(PICTURE, 1)
        camera.start()
        assert fetched(camera) is not None
        stage.present = False
        stage.show(PICTURE, 1)
        assert fetched(camera, timeout=0.05) is None
        with pytest.raises(gentl.IoException):
            configure(camera, Gain=1.0)
        stage.present = True  # power is back, but this connection is forgotten
        with pytest.raises(gentl.IoException):
            configure(camera, Gain=2.0)
        assert fetched(camera, timeout=0.05) is None
        abandon(camera)
        consumer.update()
        with opened(consumer, stage.serial) as again:
            again.start()
            assert frame_ids(again, 1) == [1]
            assert stage.counters.opens == 2


def test_a_stage_that_ends_takes_its_camera_along(producer: Path) -> None:
    with grey_stage() as stage, harvester(producer) as consumer:
        camera = consumer.create(0)
        camera.start()
        stage.__exit__()
        with pytest.raises(gentl.IoException):
            configure(camera, Gain=1.0)
        abandon(camera)
        stage.__enter__()
        consumer.update()
        with opened(consumer, stage.serial) as again:
            again.start()
            stage.show(PICTURE, 1)
            assert fetched(again) is not None


def test_a_killed_stage_takes_its_camera_along(producer: Path) -> None:
    script = "from inspector.camera.gentl.stage import Stage\nwith Stage('a', 16, 16): print('up', flush=True); input()"
    with started(script) as owner:
        assert owner.stdout.readline() == "up\n"
        with harvester(producer) as consumer:
            camera = consumer.create(0)
            owner.kill()
            owner.wait(10)
            with pytest.raises(gentl.IoException):
                configure(camera, Gain=1.0)
            abandon(camera)
            consumer.update()
            assert consumer.device_info_list == []


def test_a_stalled_camera_answers_and_sends_nothing(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        stage.stalled = True
        stage.show(PICTURE, 1)
        camera.start()
        assert fetched(camera, timeout=0.05) is None
        configure(camera, Gain=1.0)
        assert stage.counters.exposures == 0
        stage.stalled = False
        assert fetched(camera) is not None


def test_a_stalled_camera_misses_its_triggers(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        configure(camera, TriggerMode="On", TriggerSource="Line0")
        camera.start()
        stage.stalled = True
        stage.pulse()
        assert until(lambda: stage.counters.missed_triggers == 1)
        stage.stalled = False
        assert fetched(camera, timeout=0.05) is None


def test_incomplete_buffers(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        stage.incomplete_every = 3
        for _ in range(6):
            stage.show(PICTURE, 1)
        camera.start()
        assert [fetched(camera) is not None for _ in range(6)] == [True, True, False, True, True, False]
        assert (stage.counters.delivered, stage.counters.incomplete) == (6, 2)


def test_frames_lost_on_the_wire_leave_a_gap(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        stage.drop_every = 3
        for _ in range(6):
            stage.show(PICTURE, 1)
        camera.start()
        assert frame_ids(camera, 4) == [1, 2, 4, 5]
        assert until(lambda: stage.counters.dropped == 2)


def test_frames_without_a_buffer_are_underruns(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial, buffers=2) as camera:
        configure(camera, ExposureTime=100.0)
        for _ in range(5):
            stage.show(PICTURE, 1)
        camera.start()
        assert until(lambda: stage.counters.underruns == 3)
        assert camera.data_streams[0].num_underrun == 3
        assert frame_ids(camera, 2) == [1, 2]
        stage.show(PICTURE, 1)
        assert frame_ids(camera, 1) == [6]


def test_a_slow_transport_delays_and_loses_nothing(producer: Path) -> None:
    with grey_stage() as stage, acquirer(producer, stage.serial) as camera:
        stage.transport_delay_us = 100_000
        configure(camera, ExposureTime=100.0)
        for _ in range(4):
            stage.show(PICTURE, 1)
        camera.start()
        assert frame_ids(camera, 4) == [1, 2, 3, 4]
        assert time.monotonic_ns() - stage.exposures()[-1].exposed_ns > 100_000_000


@pytest.mark.parametrize("call", ["fetched(camera, timeout=0.1)", "trigger.execute()"])
def test_a_camera_that_hangs_keeps_its_process(producer: Path, call: str) -> None:
    script = f"{ACQUIRE}    input()\n    {call}\n    print('came back', flush=True)\n    os._exit(0)"
    with grey_stage() as stage, started(script, str(producer)) as consumer:
        assert consumer.stdout.readline() == "True\n"
        stage.hang = True
        consumer.stdin.write("\n")
        consumer.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            consumer.wait(0.5)
        stage.hang = False
        assert consumer.stdout.readline() == "came back\n"


def test_a_producer_that_aborts_takes_its_process_along_once(producer: Path) -> None:
    with grey_stage() as stage:
        script = ACQUIRE + "    stage.abort = True\n    configure(camera, Gain=1.0)\n    print('survived')"
        done = process(script, str(producer))
        assert (done.returncode, done.stdout) == (-signal.SIGABRT, "True\n")
        assert not stage.abort
        done = process(ACQUIRE, str(producer))  # the camera is free again, and the switch is off
        assert (done.returncode, done.stdout) == (0, "True\n")
