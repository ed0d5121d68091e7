from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import fit as module
from models.checkpoint import Checkpoint
from models.detector import Detector
from models.dfsc import Constraint
from models.fit import Schedule, fit
from models.progress import silent

SCHEDULE = Schedule(steps=4, learning_rate=1e-3, weight_decay=1e-5, seed=3)


class KilledError(Exception):
    """Stands for a SIGKILL between two steps."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, 256, 256, generator=generator) for _ in range(3)]


def trained(checkpoint: Path, *, key: str = "key", killed_after: int | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    detector = Detector().eval()

    def progress(stage: str, done: int, _total: int, note: str = "") -> None:  # noqa: ARG001
        if stage == "training" and done == killed_after:
            raise KilledError

    fit(detector, images(), SCHEDULE, Constraint(), checkpoint=checkpoint, key=key, progress=progress)
    return detector.state_dict()


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "a.pt"), trained(tmp_path / "b.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_training_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole.pt")
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(module, "REPORT_STEPS", 1)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed.pt", killed_after=3)
    stored = Checkpoint.load(tmp_path / "killed.pt", "key")
    assert stored is not None
    assert stored.step == 2  # the third was done, but not yet saved
    resumed = trained(tmp_path / "killed.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_trainings_checkpoint_is_not_taken(tmp_path: Path) -> None:
    trained(tmp_path / "a.pt")
    assert Checkpoint.load(tmp_path / "a.pt", "other images") is None


def test_training_starts_from_the_seed_and_changes_the_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Detector().state_dict()
    after = trained(tmp_path / "a.pt")
    assert not torch.equal(before["student.0.weight"], after["student.0.weight"])
    assert not torch.equal(before["autoencoder.head.0.weight"], after["autoencoder.head.0.weight"])
    assert torch.equal(before["teacher.stem.0.weight"], after["teacher.stem.0.weight"])


def test_the_learning_rate_warms_up_and_drops() -> None:
    schedule = Schedule(steps=1000, learning_rate=1.0, weight_decay=0, seed=0)
    rates = [schedule.rate_at(step) for step in range(1000)]
    assert rates[0] < 0.2
    assert rates[30] == pytest.approx(0.95, abs=0.02)
    assert rates[899] == pytest.approx(1, abs=0.01)
    assert rates[900] == pytest.approx(0.1, abs=0.01)


def test_the_teachers_features_are_standardised_on_the_training_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    fit(
        detector,
        images(),
        Schedule(steps=1, learning_rate=0, weight_decay=0, seed=0),
        Constraint(),
        checkpoint=tmp_path / "c.pt",
        key="",
        progress=silent,
    )
    with torch.inference_mode():
        features = torch.cat([detector.teacher_features(image) for image in images()])
    assert torch.allclose(features.mean(dim=(0, 2, 3)), torch.zeros(152), atol=1e-2)
    assert torch.allclose(features.var(dim=(0, 2, 3)), torch.ones(152), atol=2e-2)
