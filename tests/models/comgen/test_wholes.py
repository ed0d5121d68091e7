"""Which pieces are one thing, on drawn ones: a label with a print and a band, a bolt, a tray's edge."""

import cv2
import numpy as np
import pytest

from models.comgen.components import Instance
from models.comgen.population import Population
from models.comgen.prompts import Modification, is_anomalous, modify
from models.comgen.shapes import roundness, solidity
from models.comgen.wholes import arrange

LABEL, PRINT, BAND, BOLT, EDGE = range(5)


def piece(component: int, *boxes: tuple[int, int, int, int]) -> Instance:
    """Of rectangles from row and column to row and column."""
    mask = np.zeros((256, 256), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return Instance(component, 0, mask)


def tray(down: int = 0, across: int = 0) -> list[Instance]:
    """A label whose print has the label's hole to itself, a band on top of it, and a bolt far away."""
    label = piece(LABEL, (60 + down, 60 + across, 110 + down, 120 + across))
    printed = piece(PRINT, (75 + down, 80 + across, 95 + down, 100 + across))
    plain = Instance(LABEL, 0, label.mask & ~printed.mask)
    return [
        plain,
        printed,
        piece(BAND, (45 + down, 60 + across, 59 + down, 120 + across)),
        piece(BOLT, (180, 30, 220, 50)),
    ]


def test_what_touches_is_one_thing_named_by_its_largest_piece() -> None:
    parts = tray()

    found = arrange(parts).things

    label, bolt = sorted(found, key=lambda thing: thing.component)
    assert (label.component, set(label.members)) == (LABEL, set(parts[:3]))
    assert label.mask[45:110, 60:120].all()
    assert np.count_nonzero(label.mask) == 65 * 60
    assert bolt is parts[3]


def test_what_would_be_too_large_falls_apart_and_keeps_what_lies_on_it() -> None:
    label, printed, _, bolt = tray()
    juice = piece(EDGE, (111, 10, 255, 250))  # below the label, and half of the image

    found = arrange([label, printed, juice, bolt]).things

    assert {frozenset(thing.members) for thing in found} == {frozenset({label, printed}), frozenset()}
    assert juice in found


def test_what_lies_on_a_large_part_is_one_thing_upon_it() -> None:
    label, printed, _, _ = tray()
    around = piece(EDGE, (10, 10, 160, 170)).mask
    body = Instance(EDGE, 0, around & ~label.mask & ~printed.mask)  # more of the image than a thing may be

    found = arrange([body, label, printed])

    assert {frozenset(thing.members) for thing in found.things} == {frozenset({label, printed}), frozenset()}
    assert body in found.things
    assert body in found.touching


def test_what_sticks_out_is_no_part_of_a_thing() -> None:
    label, printed, band, _ = tray()
    edge = piece(EDGE, (111, 60, 117, 200), (111, 194, 200, 200))

    found = arrange([label, printed, band, edge]).things

    assert edge in found
    assert any({label, printed} <= set(thing.members) for thing in found)


def test_what_stands_alone_touches_nothing() -> None:
    parts = tray()

    assert arrange(parts).touching == parts[:3]


def test_of_no_parts_there_are_no_things() -> None:
    assert arrange([]).things == []


@pytest.fixture(scope="module")
def population() -> Population:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(30):
        ragged = piece(EDGE, (10, 10, 13, 150), (10, 10, 150, 13), (60, 10, 63, 40), (90, 10, 93, 40))
        images.append([*tray(int(rng.integers(-5, 6)), int(rng.integers(-5, 6))), ragged])
    return Population(images)


def test_a_print_is_moved_with_its_label_and_what_is_ragged_is_left_alone(population: Population) -> None:
    rng = np.random.default_rng(0)
    moved = [modify(number % 30, "move", population, rng) for number in range(40)]

    assert {one.part.component for one in moved if one} == {LABEL, BOLT}
    assert all(len(one.part.members) == 3 for one in moved if one and one.part.component == LABEL)
    assert not [part for parts in population.parts for part in parts if part.component == EDGE]


def test_only_a_part_with_a_neighbour_and_nothing_on_it_has_a_level(population: Population) -> None:
    rng = np.random.default_rng(0)
    changed = [modify(number % 30, "level", population, rng) for number in range(40)]

    assert {one.part.component for one in changed if one} == {BAND}


def test_a_print_may_be_missing_alone_or_with_its_label(population: Population) -> None:
    rng = np.random.default_rng(0)
    names = ["label", "print", "band", "bolt", "edge"]
    words = {
        one.words(population.images[number % 30], names)[1]
        for number in range(60)
        if (one := modify(number % 30, "drop", population, rng))
    }

    assert {"band, bolt, edge, label", "bolt, edge"} <= words


def test_what_looks_different_in_each_image_is_no_part_unless_it_lies_on_one_ground() -> None:
    rng = np.random.default_rng(0)
    bolt, label = tray()[3], tray()[0]
    images = []
    for _ in range(12):
        bottom, right = rng.integers(130, 250, 2).tolist()
        images.append([bolt, label, piece(EDGE, (120, 120, bottom, right))])

    def editable(unevenness: float) -> set[int]:
        parts = Population(images, lambda _, thing: unevenness if thing.component == EDGE else 0.0).parts
        return {part.component for of_image in parts for part in of_image}

    assert editable(9.0) == {BOLT, LABEL}
    assert editable(0.0) == {BOLT, LABEL, EDGE}


def test_a_label_between_two_grounds_is_not_moved() -> None:
    images = [[tray()[3], piece(LABEL, (60, 60, 110, 120))] for _ in range(12)]
    population = Population(images, lambda _, thing: 0.6 if thing.component == LABEL else 0.1)

    assert {part.component for part in population.parts[0]} == {BOLT, LABEL}
    assert {thing.component for thing in population.things[0]} == {BOLT}
    assert {part.component for part in population.loose[0]} == {BOLT}


def test_a_label_that_is_cut_up_the_same_way_every_time_is_one_thing() -> None:
    rows = [piece(LABEL, (60, 60, 80, 120)), piece(PRINT, (80, 60, 100, 120)), piece(BAND, (100, 60, 120, 120))]
    population = Population([rows] * 12, lambda *_: 0.3)

    assert [len(thing.members) for thing in population.things[0]] == [3]


def test_a_kind_that_is_rare_is_known_by_its_component() -> None:
    images = [[Instance(BOLT, number % 3, piece(BOLT, (180, 30, 220, 50)).mask)] for number in range(12)]
    population = Population(images, lambda *_: 9.0)

    assert all(len(parts) == 1 for parts in population.parts)


def test_a_component_that_is_seldom_found_as_a_part_is_not_edited() -> None:
    seldom = piece(EDGE, (120, 150, 160, 200))
    thin = Instance(EDGE, 0, piece(EDGE, (120, 150, 122, 200)).mask)
    images = [[tray()[3], seldom if number < 6 else thin] for number in range(20)]

    assert not [part for parts in Population(images).parts for part in parts if part.component == EDGE]


def test_a_disc_is_round_and_a_comb_is_neither_round_nor_solid() -> None:
    disc = cv2.circle(np.zeros((256, 256), np.uint8), (100, 100), 40, 1, -1) > 0
    comb = piece(EDGE, (50, 50, 55, 150), *[(50, left, 110, left + 4) for left in range(50, 150, 12)]).mask

    assert roundness(disc) > 0.85
    assert roundness(comb) < 0.2
    assert solidity(disc) > 0.97
    assert solidity(comb) < 0.6


def test_a_pair_that_some_good_images_lack_may_be_missing_as_a_whole_and_not_by_half() -> None:
    pair = [piece(BOLT, (50, 50, 90, 90)), piece(BOLT, (50, 90, 90, 130))]
    alone = piece(LABEL, (150, 50, 190, 90))
    population = Population([[*pair, alone]] * 12 + [[alone]] * 8)
    (both,) = [thing for thing in population.things[0] if thing.members]

    assert not is_anomalous(Modification("drop", both), 0, population)
    assert is_anomalous(Modification("drop", pair[0]), 0, population)
