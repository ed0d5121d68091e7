from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from models.fakes import EDITS, LEAST_CHANGE, Fake, make_fakes

PER_KIND = 2


def source(seed: int, *, grey: bool = False) -> Tensor:
    """A coloured disc at another place in each, on a ground with some grain."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0.2, 0.25, (256, 256, 3)).astype(np.float32)
    cv2.circle(pixels, (90 + 30 * seed, 128), 50, tuple(rng.uniform(0.4, 0.9, 3).tolist()), -1)
    if grey:
        pixels = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def sources() -> list[Tensor]:
    return [source(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def fakes(sources: list[Tensor]) -> list[Fake]:
    return make_fakes(sources, 0, per_kind=PER_KIND)


def test_there_are_at_most_so_many_of_every_kind(fakes: list[Fake]) -> None:
    counts = Counter(fake.kind for fake in fakes)
    assert set(counts) >= set(EDITS) - {"missing"}  # from a disc of one colour nothing can be missing
    assert max(counts.values()) == PER_KIND


def test_a_kind_of_edit_that_would_not_show_is_left_out() -> None:
    """Good images that are all the same have no mismatch."""
    same = [source(0)] * 3
    assert "mismatched" not in {fake.kind for fake in make_fakes(same, 0, per_kind=1)}


def test_fakes_differ_where_the_part_is_inspected() -> None:
    region = torch.zeros(1, 1, 64, 64)
    region[..., 24:40, 16:48] = 1
    inside = slice(4 * 24, 4 * 40), slice(4 * 16, 4 * 48)
    for fake in make_fakes([source(0)], 0, per_kind=2, region=region):
        assert (fake.image - source(0)).abs()[0, :, *inside].amax() > LEAST_CHANGE, fake.kind


def test_a_fake_is_a_network_image(fakes: list[Fake]) -> None:
    assert {(tuple(fake.image.shape), fake.image.dtype) for fake in fakes} == {((1, 3, 256, 256), torch.float32)}
    assert all((fake.image >= 0).all() and (fake.image <= 1).all() for fake in fakes)


def test_a_fake_differs_visibly_from_every_good_image(fakes: list[Fake], sources: list[Tensor]) -> None:
    least = {fake.kind: min((fake.image - good).abs().max().item() for good in sources) for fake in fakes}
    assert min(least.values()) > LEAST_CHANGE, least


def test_most_of_a_fake_is_a_good_image(fakes: list[Fake], sources: list[Tensor]) -> None:
    for fake in (fake for fake in fakes if fake.kind != "recoloured"):  # which may be all of the ground
        changed = min(((fake.image - good).abs().amax(dim=1) > LEAST_CHANGE).float().mean().item() for good in sources)
        assert changed < 0.5, fake.kind


def test_good_images_are_left_as_they_are(sources: list[Tensor]) -> None:
    before = [image.clone() for image in sources]
    make_fakes(sources, 1, per_kind=1)
    assert all(torch.equal(image, copy) for image, copy in zip(sources, before, strict=True))


def test_fakes_of_grey_images_are_grey() -> None:
    grey = make_fakes([source(seed, grey=True) for seed in range(2)], 0, per_kind=1)
    assert all(torch.equal(fake.image[:, 0], fake.image[:, channel]) for fake in grey for channel in (1, 2))


def test_the_same_seed_gives_the_same_fakes_and_another_gives_others(fakes: list[Fake], sources: list[Tensor]) -> None:
    again, other = (make_fakes(sources, seed, per_kind=PER_KIND) for seed in (0, 1))
    assert all(torch.equal(one.image, two.image) for one, two in zip(fakes, again, strict=True))
    assert not any(torch.equal(one.image, two.image) for one in fakes for two in other)
