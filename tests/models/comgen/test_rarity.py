"""Where moved and doubled parts come to lie, on a product with one disc that good images show in a broad band."""

import cv2
import numpy as np
import pytest

from models.comgen.components import Instance
from models.comgen.population import Population
from models.comgen.prompts import Modification, modify
from models.comgen.quality import rarity

COUNT = 30


def disc(row: int, column: int) -> Instance:
    mask = np.zeros((256, 256), np.uint8)
    cv2.circle(mask, (column, row), 9, 1, -1)
    return Instance(0, 0, mask > 0)


@pytest.fixture(scope="module")
def population() -> Population:
    rng = np.random.default_rng(0)
    return Population([[disc(int(rng.integers(90, 111)), int(rng.integers(40, 217)))] for _ in range(COUNT)])


def drawn(population: Population, *, rare: bool) -> list[Modification]:
    rng = np.random.default_rng(0)
    made = [modify(number % COUNT, "duplicate", population, rng, rare=rare) for number in range(60)]
    return [one for one in made if one]


def test_low_density_sampling_draws_places_that_are_seldom_but_not_never_taken(population: Population) -> None:
    preferred = rarity(drawn(population, rare=True), population)
    anywhere = rarity(drawn(population, rare=False), population)

    assert preferred is not None
    assert anywhere is not None
    assert preferred.seldom > 0.6 > 2 * anywhere.seldom
    assert preferred.distance < 0.05


def test_where_no_good_image_shows_a_part_none_is_put(population: Population) -> None:
    for one in drawn(population, rare=False):
        assert one.place is not None
        assert 75 < 256 * one.place[0] < 125  # as far as it may hang over the band from row 81 to 120


def test_a_usual_place_is_not_seldom_and_a_far_one_never_taken() -> None:
    population = Population([[disc(100, 100 + number % 5)] for number in range(COUNT)])
    part = population.images[0][0]
    for place in ((100.5 / 256, 102.5 / 256), (228.5 / 256, 100.5 / 256)):
        found = rarity([Modification("duplicate", part, place=place)], population)
        assert found is not None
        assert found.seldom == 0
        assert found.distance == pytest.approx(abs(place[0] - 100.5 / 256))


def test_without_places_there_is_no_rarity(population: Population) -> None:
    assert rarity([Modification("drop", population.images[0][0])], population) is None
