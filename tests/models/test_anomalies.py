import numpy as np
import pytest
import torch
from torch import Tensor

from models import anomalies as module
from models.anomalies import KIN, MAKES, Anomaly, Drawn, perlin_noise
from models.comgen.examples import COMGEN, COMGEN_ANY
from models.fakes import EDITS, GENERATED


def sources(*, grey: bool = False) -> list[Tensor]:
    """Surfaces with a gradient and some grain, so that every move shows."""
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0.2, 0.7, 256)
    ground = slope.view(1, 1, 1, -1) + slope.view(1, 1, -1, 1) * torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    images = [ground + 0.05 * torch.rand(1, 3, 256, 256, generator=generator) for _ in range(3)]
    return [image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) for image in images] if grey else images


def drawn(kind: str, count: int = 8, *, seed: int = 0, grey: bool = False) -> list[Anomaly]:
    made = Drawn(sources(grey=grey), MAKES[kind], seed=seed, count=count)
    return [made[index] for index in range(len(made))]


@pytest.mark.parametrize("kind", MAKES)
def test_an_anomaly_differs_from_its_source_in_its_mask_alone(kind: str) -> None:
    for item in drawn(kind):
        if not item.mask.any():
            continue
        change = (item.image - sources()[item.source]).abs().amax(dim=1)[0]
        assert change[item.mask == 0].max() < 1e-6
        assert change[item.mask == 1].mean() > 0.02 or (item.mask == 1).sum() < 10


@pytest.mark.parametrize("kind", MAKES)
def test_some_are_edited_such_that_nothing_is_wrong(kind: str) -> None:
    items = drawn(kind, 25)
    no_ops = [item for item in items if not item.mask.any()]
    changes = [(item.image - sources()[item.source]).abs().max().item() for item in no_ops]
    assert 2 <= len(no_ops) <= 12
    assert sum(change > 0 for change in changes) > len(no_ops) / 2
    assert max(changes) < 0.1


@pytest.mark.parametrize("kind", MAKES)
def test_the_same_seed_and_index_give_the_same_anomaly(kind: str) -> None:
    first, again, other = drawn(kind, 4), drawn(kind, 4), drawn(kind, 4, seed=1)
    assert all(torch.equal(one.image, two.image) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one.image, two.image) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", MAKES)
def test_anomalies_of_grey_images_are_grey(kind: str) -> None:
    for item in drawn(kind, 5, grey=True):
        assert torch.equal(item.image[:, 0], item.image[:, 2])


def test_there_are_no_more_than_were_asked_for() -> None:
    made = Drawn(sources(), module.cut_paste, seed=0, count=2)
    with pytest.raises(IndexError):
        made[2]


def test_a_cut_patch_covers_what_the_paper_says() -> None:
    shares = [float((item.mask > 0.5).float().mean()) for item in drawn("cutpaste", 60) if item.mask.any()]
    assert max(shares) < 0.16
    assert min(shares) < 0.01  # a scar


def test_perlin_noise_is_smooth_and_has_as_many_hills_as_asked_for() -> None:
    few, many = (perlin_noise(count, count, np.random.default_rng(0)) for count in (2, 32))
    assert np.abs(few).max() < 1.1
    assert np.abs(np.diff(few, axis=0)).max() < 0.05
    assert np.abs(np.diff(many, axis=0)).mean() > 5 * np.abs(np.diff(few, axis=0)).mean()


def test_every_kind_names_the_fakes_that_look_like_it() -> None:
    assert KIN.keys() == MAKES.keys() | {COMGEN, COMGEN_ANY}
    assert all(kin and kin < {*EDITS, GENERATED} for kin in KIN.values())
