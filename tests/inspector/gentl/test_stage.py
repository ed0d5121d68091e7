"""A stage is one file that Python and C read alike, and it is there as long as its process."""

import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inspector.camera import CameraError
from inspector.camera.gentl import SOURCE
from inspector.camera.gentl.layout import HEADER_SIZE, LAYOUT, LOG_LENGTH
from inspector.camera.gentl.stage import Stage, attach, stage_folder

from .client import ROOT

GREY = np.full((16, 16), 7, np.uint8)


def test_c_has_the_same_layout() -> None:
    asserted = dict(re.findall(r"^AT\((\w+), (\d+)\);", SOURCE.read_text(), re.MULTILINE))
    assert {name: int(offset) for name, offset in asserted.items()} == {
        name: field.offset for name, field in LAYOUT.items()
    }


def test_every_field_has_its_place() -> None:
    ends = 0
    for name, (offset, form) in LAYOUT.items():
        assert offset >= ends, name
        assert offset % struct.calcsize(form.lstrip("2")) == 0 or form.endswith("s"), name
        ends = offset + struct.calcsize(form)
    assert ends <= HEADER_SIZE


def test_it_is_there_while_it_is_entered(stages: Path) -> None:
    with Stage("one", 16, 16) as stage:
        assert [file.name for file in stages.iterdir()] == ["one.stage"]
        assert (stage.name, stage.user_id, stage.serial) == ("one", "one", "SIM7A6C86F1")
        assert stage.present
    assert list(stages.iterdir()) == []


def test_its_folder_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, stages: Path) -> None:
    assert stage_folder() == stages
    monkeypatch.delenv("INSPECTOR_STAGES")
    assert stage_folder().name == f"inspector-cameras-{os.getuid()}"


def test_pictures_wait_for_the_camera() -> None:
    with Stage("one", 16, 16, channels=1, slots=2) as stage:
        assert stage.show(GREY, 0)
        assert stage.show(GREY[..., np.newaxis], 0)
        assert not stage.show(GREY, 0.01)
        assert stage.waiting == 2


@pytest.mark.parametrize("image", [GREY[:-2], GREY.astype(np.uint16), np.zeros((16, 16, 3), np.uint8)])
def test_a_foreign_picture_is_refused(image: np.ndarray) -> None:
    with Stage("one", 16, 16, channels=1) as stage, pytest.raises(ValueError, match=r"the stage takes uint8 of"):
        stage.show(image, 0)


@pytest.mark.parametrize(
    ("name", "width", "height", "channels", "slots"),
    [
        ("../one", 16, 16, 3, 8),
        ("", 16, 16, 3, 8),
        ("one", 18, 16, 3, 8),
        ("one", 16, 17, 3, 8),
        ("one", 12, 16, 3, 8),
        ("one", 16, 16, 4, 8),
        ("one", 16, 16, 3, 0),
    ],
)
def test_an_impossible_camera_is_refused(name: str, width: int, height: int, channels: int, slots: int) -> None:
    with pytest.raises(ValueError, match=r"no name|no sensor|channels"):
        Stage(name, width, height, channels=channels, slots=slots)


def test_two_of_the_same_name_cannot_run() -> None:
    with Stage("one", 16, 16), pytest.raises(CameraError, match="running already"), Stage("one", 16, 16):
        pass


def test_another_process_turns_its_switches() -> None:
    script = "from inspector.camera.gentl.stage import attach\nwith attach('one') as s: s.drop_every = 3; s.pulse(1)"
    with Stage("one", 16, 16) as stage:
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=30)  # noqa: S603
        assert stage.drop_every == 3
        assert stage.counters.missed_triggers == 1
        with attach("one") as view:
            view.clock_ppm = 12.5
        assert stage.clock_ppm == 12.5
    with pytest.raises(CameraError, match="no stage called one"), attach("one"):
        pass


def test_one_that_was_killed_leaves_its_name_free(stages: Path) -> None:
    script = "from inspector.camera.gentl.stage import Stage\nimport os\nStage('one', 16, 16).__enter__(); os._exit(1)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=30)  # noqa: S603
    assert (stages / "one.stage").exists()
    with Stage("one", 32, 32) as stage:
        assert stage.waiting == 0


def test_the_log_forgets_the_oldest() -> None:
    with Stage("one", 16, 16) as stage:
        stage.header.set("logged", LOG_LENGTH + 10)
        assert len(stage.exposures()) == LOG_LENGTH - 1  # the oldest may be written over just now


def test_the_cameras_clock_drifts_from_the_stages_beginning() -> None:
    with Stage("one", 16, 16) as stage:
        stage.clock_offset_ns = 10**12
        stage.clock_ppm = 100
        now_ns = time.monotonic_ns()
        begun_ns = stage.header.number("clock_origin_ns")
        assert stage.camera_ns(begun_ns) == begun_ns + 10**12
        assert stage.camera_ns(begun_ns + 10**9) == begun_ns + 10**12 + 10**9 + 100_000
        assert begun_ns <= now_ns
