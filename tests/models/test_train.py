import builtins
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import torch

from models import data
from models.data import DataError
from models.method import Method
from models.progress import silent
from models.train import TRAINED, train
from models.trained import CSDA_STEPS, JUDGES, MADE, STEPS, VERSION, Trained, TrainSettings

from .discs import write_discs
from .tiny import use_tiny_networks

METHOD = Method(margin=1.0, dropout=0.1)
SETTINGS = TrainSettings(budget="demo", method=METHOD)


class OpenedError(Exception):
    """Somebody looks at what only evaluation may see."""


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        for table, count in ((STEPS, 6), (CSDA_STEPS, 2), (MADE, 30), (JUDGES, 7)):
            patch.setitem(table, "demo", count)
        patch.setattr("models.trained.MARGIN_BUDGETS", {"demo"})
        patch.setattr("models.train.FAKES_PER_KIND", 1)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs, whose test images and masks are rubbish."""
    discs = write_discs(tmp_path_factory.mktemp("product") / "discs")
    for path in (*(discs / "test").rglob("*.png"), *(discs / "ground_truth").rglob("*.png")):
        path.write_bytes(b"rubbish")
    return discs


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Learned where there are no test images."""
    alone = tmp_path_factory.mktemp("alone") / "discs"
    shutil.copytree(dataset, alone, ignore=shutil.ignore_patterns("test", "ground_truth"))
    return train(alone, SETTINGS, work=alone.parent, progress=silent)


def lock(folders: list[Path], patch: pytest.MonkeyPatch) -> None:
    """Whatever opens or lists one of the folders, or anything in it, raises OpenedError."""

    def guard(owner: object, name: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def guarded(*arguments: object, **named: object) -> object:
            path = arguments[0] if arguments else "."
            if isinstance(path, str | Path) and any(Path(path).is_relative_to(folder) for folder in folders):
                raise OpenedError(f"{name} of {path}")
            return real(*arguments, **named)

        patch.setattr(owner, name, guarded)

    for name in ("open", "read_bytes", "read_text", "iterdir", "glob", "rglob"):
        guard(Path, name)
    for name in ("open", "listdir", "scandir"):
        guard(os, name)
    guard(cv2, "imread")
    guard(builtins, "open")


def test_training_and_calibration_never_look_at_test_images_or_masks(
    dataset: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock([dataset / "test", dataset / "ground_truth"], monkeypatch)
    with pytest.raises(OpenedError):
        data.test_images(dataset)
    beside = train(dataset, SETTINGS, work=tmp_path, progress=silent)
    found, expected = beside.detector.state_dict(), trained.detector.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert beside.record.threshold == trained.record.threshold
    assert beside.record.validation_scores == trained.record.validation_scores


def test_what_was_trained_is_loaded_as_the_method_that_it_was(trained: Trained, tmp_path: Path) -> None:
    trained.save(tmp_path / TRAINED)
    loaded = Trained.load(tmp_path / TRAINED)
    assert loaded.record == trained.record
    assert loaded.detector.method == trained.detector.method
    image = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        assert torch.equal(loaded.detector.judge(image)[1], trained.detector.judge(image)[1])


def test_what_is_made_up_is_made_once_however_often_the_training_is_killed(
    dataset: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("models.train.fit_csda", killed)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, SETTINGS, work=tmp_path, progress=silent)
    monkeypatch.setattr("models.comgen.examples.Components", killed)
    resumed = train(dataset, SETTINGS, work=tmp_path, progress=silent)
    found, expected = resumed.detector.state_dict(), trained.detector.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_csda_that_has_nothing_to_learn_from_is_left_out_with_a_word(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.csda_fit.FEWEST_VISIBLE", 1000)
    learned = train(dataset, SETTINGS, work=tmp_path, progress=silent)
    assert learned.detector.csda is None
    assert "csda" not in learned.record.settings.method.heads
    assert [word for word in learned.record.words if "CSDA is left out" in word]
    loaded = Trained.load(tmp_path / TRAINED)
    image = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        assert torch.equal(loaded.detector.judge(image)[1], learned.detector.judge(image)[1])


def test_without_a_student_none_is_trained(dataset: Path, tmp_path: Path) -> None:
    method = Method(student="never", heads=("patch", "global", "puad", "components"), anomalies="structural")
    stages: list[str] = []
    learned = train(
        dataset,
        TrainSettings(budget="demo", method=method),
        work=tmp_path,
        progress=lambda stage, *_: stages.append(stage),
    )
    assert "learning features" in stages
    assert "training" not in stages
    assert learned.detector.student is None
    assert learned.detector.parts == ("patch", "global", "components")
    assert len(set(learned.record.validation_scores)) > 1


@pytest.mark.parametrize("chooses", [True, False])
def test_made_anomalies_choose_unless_the_method_says_that_everything_counts(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chooses: bool
) -> None:
    judged_by: list[int] = []
    monkeypatch.setattr("models.train.calibrate", lambda *_, fakes, **__: judged_by.append(len(fakes)))
    method = Method(student="never", heads=("patch", "global"), anomalies="structural", choose_scores=chooses)
    settings = TrainSettings(budget="demo", method=method)
    train(dataset, settings, work=tmp_path, progress=silent)
    assert bool(judged_by[0]) is chooses
    assert bool(settings.judges) is chooses


def test_another_versions_training_is_refused(tmp_path: Path) -> None:
    torch.save({"version": VERSION, "record": "{}", "detector": {}}, tmp_path / TRAINED)
    with pytest.raises(DataError, match="another version"):
        Trained.load(tmp_path / TRAINED)


def test_a_training_whose_scores_another_version_made_is_refused(dataset: Path, tmp_path: Path) -> None:
    train(dataset, SETTINGS, work=tmp_path, progress=silent)
    stored = torch.load(tmp_path / TRAINED, weights_only=False)
    for version in ({}, {"version": VERSION - 1}):
        torch.save({**{name: stored[name] for name in ("record", "detector")}, **version}, tmp_path / TRAINED)
        with pytest.raises(DataError, match="another version"):
            Trained.load(tmp_path / TRAINED)
    torch.save(stored, tmp_path / TRAINED)
    Trained.load(tmp_path / TRAINED)


def test_the_full_budget_takes_the_full_map_and_the_reports_learning_rate() -> None:
    schedule = TrainSettings(budget="full").schedule
    assert (schedule.steps, schedule.crop, schedule.learning_rate) == (70_000, 64, 1e-4)
    assert TrainSettings(budget="full", method=Method(learning_rate=0.01)).schedule.learning_rate == 0.01
