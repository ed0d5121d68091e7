import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from models import distill as module
from models import loop
from models.checkpoint import Checkpoint
from models.corpus import photographs
from models.data import DataError
from models.distill import DistillSettings, distill, split
from models.grid import GRID
from models.progress import Progress, silent
from models.teacher import PdnTeacher

from .tiny import tiny_pdn

SETTINGS = DistillSettings(backbone="tiny", views=20, steps=4)

pytestmark = pytest.mark.usefixtures("one_thread")


class KilledError(Exception):
    """Stands for a SIGKILL between two steps."""


class TinyBackbone(nn.Module):
    """Each cell's mean colour, and how bright it is."""

    def forward(self, image: Tensor) -> Tensor:
        colours = F.avg_pool2d(image, 8)
        return torch.cat([colours, colours.sum(dim=1, keepdim=True)], dim=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "more").mkdir()
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 255, (70 + 9 * index, 110 - 8 * index, 3), np.uint8)
        assert cv2.imwrite(str(folder / ("more" if index % 2 else ".") / f"{index}.png"), pixels)
    return folder


def distilled(pictures: Path, out: Path, progress: Progress = silent) -> dict[str, Tensor]:
    distill(pictures, TinyBackbone(), SETTINGS, out=out, progress=progress)
    with safe_open(out, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict


def test_a_teacher_is_made_in_half_precision_with_a_record_of_its_making(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "teacher.safetensors"
    made = distill(pictures, TinyBackbone(), SETTINGS, out=out, progress=silent)
    assert made.path == out
    assert list(tmp_path.iterdir()) == [out]
    with safe_open(out, framework="pt") as file:
        record = json.loads(file.metadata()["inspector"])
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - it is no dict
    assert record["backbone"] == "tiny"
    assert (record["size"], record["views"], record["steps"], record["seed"]) == ("small", 20, 4, 0)
    assert record["photographs"] == 5  # the sixth is held out
    assert record["held_out_error"] == pytest.approx(made.held_out_error, abs=1e-4)
    with torch.inference_mode():
        assert PdnTeacher(out)(torch.rand(1, 3, 256, 256)).shape == (1, 4, GRID, GRID)


def test_a_killed_distillation_goes_on_to_the_same_teacher(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pdn", tiny_pdn)
    whole = distilled(pictures, tmp_path / "whole.safetensors")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "REPORT_STEPS", 1)
    killed, told = tmp_path / "killed.safetensors", []

    def kill(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if stage == "distilling" and done == 3:
            raise KilledError

    def listen(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if stage == "distilling":
            told.append(done)

    with pytest.raises(KilledError):
        distilled(pictures, killed, kill)
    assert not killed.exists()
    resumed = distilled(pictures, killed, listen)
    assert told == [3, 4]  # the third was done, but not yet saved
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_distillations_checkpoint_is_not_taken(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pdn", tiny_pdn)
    out = tmp_path / "teacher.safetensors"
    Checkpoint("another", 4, 0.0, {}).save(out.with_suffix(".checkpoint"))
    assert distilled(pictures, out)


@pytest.mark.parametrize("count", [2, 6, 100])
def test_held_out_photographs_are_no_others(count: int) -> None:
    photos = [Path(str(index)) for index in range(count)]
    learned, held_out = split(photos, seed=0)
    assert learned
    assert held_out
    assert sorted(learned + held_out) == sorted(photos)


def test_held_out_photographs_are_not_even_opened_to_learn(pictures: Path, tmp_path: Path) -> None:
    folder, told = tmp_path / "pictures", []
    shutil.copytree(pictures, folder)
    (held_out,) = split(photographs(folder), seed=0)[1]
    held_out.write_bytes(b"whoever reads this fails")

    def listen(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        told.append((stage, done, total))

    with pytest.raises(DataError, match=held_out.name):
        distill(folder, TinyBackbone(), SETTINGS, out=tmp_path / "teacher.safetensors", progress=listen)
    assert ("describing views", 20, 20) in told


def test_a_single_picture_cannot_be_held_out_and_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pdn", tiny_pdn)
    shutil.copy(pictures / "0.png", tmp_path)
    with pytest.raises(DataError, match="too few"):
        distilled(tmp_path, tmp_path / "teacher.safetensors")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        distill(tmp_path, TinyBackbone(), SETTINGS, out=tmp_path / "teacher.safetensors", progress=silent)
    assert not list(tmp_path.iterdir())


def test_distillation_learns(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean colours can be learned by one convolution: more steps leave less of the error."""
    monkeypatch.setattr(module, "pdn", tiny_pdn)
    errors = [
        distill(
            pictures, TinyBackbone(), DistillSettings(views=20, steps=steps), out=tmp_path / "t", progress=silent
        ).held_out_error
        for steps in (1, 100)
    ]
    assert errors[1] < 0.5 * errors[0]
