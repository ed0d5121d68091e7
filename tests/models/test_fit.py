from pathlib import Path

import numpy as np
import pytest
import torch

from models import fit as module
from models import loop
from models.checkpoint import Checkpoint
from models.detector import Detector
from models.fit import Schedule, fit
from models.grid import GRID
from models.method import EFFICIENTAD, Method
from models.progress import silent

SCHEDULE = Schedule(steps=4, seed=3, learning_rate=1e-3)

pytestmark = pytest.mark.usefixtures("one_thread", "tiny_networks")


class KilledError(Exception):
    """Stands for a SIGKILL between two steps."""


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, 256, 256, generator=generator) for _ in range(3)]


def trained(
    checkpoint: Path,
    method: Method = Method(),  # noqa: B008 - it is frozen
    schedule: Schedule = SCHEDULE,
    *,
    key: str = "key",
    killed_after: int | None = None,
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    detector = Detector(method).eval()

    def progress(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if stage == "training" and done == killed_after:
            raise KilledError

    fit(detector, images(), schedule, checkpoint=checkpoint, key=key, progress=progress)
    return detector.state_dict()


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first, second = trained(tmp_path / "a.pt"), trained(tmp_path / "b.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", [Method(), EFFICIENTAD], ids=["DFSC", "dropout, augmentation and penalty"])
def test_a_killed_training_goes_on_to_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    whole = trained(tmp_path / "whole.pt", method)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "REPORT_STEPS", 1)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed.pt", method, killed_after=3)
    stored = Checkpoint.load(tmp_path / "killed.pt", "key")
    assert stored is not None
    assert stored.step == 2  # the third was done, but not yet saved
    resumed = trained(tmp_path / "killed.pt", method)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_trainings_checkpoint_is_not_taken(tmp_path: Path) -> None:
    trained(tmp_path / "a.pt")
    assert Checkpoint.load(tmp_path / "a.pt", "other images") is None


def test_training_starts_from_the_seed_and_changes_the_networks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Detector().state_dict()
    after = trained(tmp_path / "a.pt")
    assert not torch.equal(before["student.0.weight"], after["student.0.weight"])
    assert not torch.equal(before["autoencoder.0.weight"], after["autoencoder.0.weight"])
    assert torch.equal(before["teacher.patches.weight"], after["teacher.patches.weight"])


@pytest.mark.parametrize(
    ("method", "crop", "changed"),
    [
        (Method(augmentation=True), module.CROP, {"student", "autoencoder"}),
        (Method(penalty=True), module.CROP, {"student"}),
        (Method(dropout=0.2), module.CROP, {"student", "autoencoder"}),
        (Method(margin=2.0, quantile=0.5), module.CROP, {"student", "autoencoder"}),
        (Method(), GRID, {"student", "autoencoder"}),
    ],
    ids=["augmentation", "penalty", "dropout", "separation", "full map"],
)
def test_an_element_changes_the_networks_that_it_is_about(
    tmp_path: Path, method: Method, crop: int, changed: set[str]
) -> None:
    """Two steps: the student hears of the auto-encoder's first step in its second."""
    plain = trained(tmp_path / "a.pt", schedule=Schedule(2, 3, 1e-3))
    other = trained(tmp_path / "b.pt", method, Schedule(2, 3, 1e-3, crop))
    assert {name.partition(".")[0] for name in plain if not torch.equal(plain[name], other[name])} == changed


def test_augmentation_keeps_an_image_an_image_and_is_mild() -> None:
    image = images()[0]
    drawn = [module.jitter(image, np.random.default_rng(seed)) for seed in range(20)]
    assert all((item >= 0).all() and (item <= 1).all() for item in drawn)
    assert all(0 < (item - image).abs().max() <= 0.2 for item in drawn)


def test_a_stranger_is_a_network_image() -> None:
    picture = module.stranger(np.random.default_rng(0))
    assert picture.shape == (1, 3, 256, 256)
    assert 0 <= picture.min() < picture.max() <= 1


def test_the_learning_rate_warms_up_and_drops() -> None:
    schedule = Schedule(steps=1000, seed=0, learning_rate=1.0)
    rates = [schedule.rate_at(step) for step in range(1000)]
    assert rates[0] < 0.2
    assert rates[30] == pytest.approx(0.95, abs=0.02)
    assert rates[899] == pytest.approx(1, abs=0.01)
    assert rates[900] == pytest.approx(0.1, abs=0.01)


def test_the_moving_average_of_a_short_training_is_over_a_share_of_it() -> None:
    assert Schedule(70_000, 0, 1e-4).momentum(0.99) == 0.99
    assert Schedule(60, 0, 1e-4).momentum(0.99) == pytest.approx(0.9)  # over 10 steps of 60, not 100
    assert Schedule(2, 0, 1e-4).momentum(0.99) == 0
    assert Schedule(70_000, 0, 1e-4).momentum(0) == 0


def test_without_momentum_the_last_networks_are_kept(tmp_path: Path) -> None:
    schedule = Schedule(12, 3, 1e-3)
    averaged = trained(tmp_path / "a.pt", schedule=schedule)
    kept = trained(tmp_path / "b.pt", Method(momentum=0), schedule)
    stored = Checkpoint.load(tmp_path / "b.pt", "key")
    assert stored is not None
    assert torch.equal(kept["student.0.weight"], stored.state["networks"]["student.0.weight"])
    assert not torch.equal(averaged["student.0.weight"], kept["student.0.weight"])


def test_the_teachers_features_are_standardised_on_the_training_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    fit(detector, images(), Schedule(1, 0, 0.0), checkpoint=tmp_path / "c.pt", key="", progress=silent)
    with torch.inference_mode():
        features = torch.cat([detector.teacher_features(image) for image in images()])
    assert torch.allclose(features.mean(dim=(0, 2, 3)), torch.zeros(features.shape[1]), atol=1e-2)
    assert torch.allclose(features.var(dim=(0, 2, 3)), torch.ones(features.shape[1]), atol=2e-2)
