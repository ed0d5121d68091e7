import numpy as np
import pytest

from models.comgen.composite import Mask, Photo, cut_out, dilate, fill, paste, slide, surroundings, turned, upscaled

from .toy import photo


@pytest.fixture
def disc() -> tuple[Photo, Mask]:
    picture, discs, _ = photo(3)
    left = discs.copy()
    left[:, 95:] = False
    return picture, left


def test_what_is_taken_away_leaves_the_ground(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    _, discs, plate = photo(3)
    filled = fill(picture, mask, [], (discs & ~mask) | plate, np.random.default_rng(0))

    assert filled is not None
    assert np.abs(filled[mask].astype(int) - 120).mean() < 8
    assert (filled[~dilate(mask, 12)] == picture[~dilate(mask, 12)]).mean() > 0.999


def test_a_filling_comes_from_another_image_only_where_nothing_lies_in_it(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    marked = np.full_like(picture, 120)
    marked[mask] = (120, 135, 120)
    nowhere = np.zeros_like(mask)

    used = fill(picture, mask, [(marked, nowhere)], ~mask, np.random.default_rng(0))
    refused = fill(picture, mask, [(marked, mask)], ~mask, np.random.default_rng(0))

    assert used is not None
    assert refused is not None
    assert used[mask][:, 1].mean() > 130
    assert refused[mask][:, 1].mean() < 125


def test_a_filling_in_which_something_was_overlooked_is_not_taken(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    barred = np.full_like(picture, 120)
    row, column = np.argwhere(mask).mean(axis=0).astype(int)
    barred[row - 1 : row + 2, column - 15 : column + 15] = 30

    filled = fill(picture, mask, [(barred, np.zeros_like(mask))], ~mask, np.random.default_rng(0))

    assert filled is not None
    assert filled[row, column].min() > 100


def test_a_pasted_part_takes_its_shadow_along_and_not_the_ground_it_lay_on(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    shadowed, shade = picture.copy(), dilate(mask, 2) & ~mask
    shadowed[shade] -= 40
    dark = np.full_like(picture, 10)

    there = paste(picture, cut_out(shadowed, mask), (200.0, 60.0))
    elsewhere = paste(dark, cut_out(picture, mask), (200.0, 60.0))

    shade = dilate(there[1], 2) & ~there[1]
    assert there[0][shade].mean() < 105  # of a ground of 120
    beside = dilate(elsewhere[1], 5) & ~dilate(elsewhere[1], 3)
    assert elsewhere[0][beside].max() < 15


def test_where_nothing_real_fits_a_filling_is_painted_only_among_what_is_alike(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    everywhere = np.ones_like(mask)
    uneven = picture.copy()
    uneven[:, :60] = 20  # the disc lies across a border

    painted = fill(picture, mask, [], everywhere, np.random.default_rng(0))

    assert painted is not None
    assert np.abs(painted[mask].astype(int) - 120).mean() < 8
    assert fill(uneven, mask, [], everywhere, np.random.default_rng(0)) is None


def test_surroundings_are_even_where_one_ground_is_all_around(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    assert surroundings(picture, mask) < 0.1
    across = picture.copy()
    across[:, :60] = 20
    assert surroundings(across, mask) > 0.45


def test_a_pasted_part_is_where_it_was_put_and_nothing_else_changes(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    pasted, there = paste(picture, cut_out(picture, mask), (200.0, 60.0))

    assert np.argwhere(there).mean(axis=0) == pytest.approx((200, 60), abs=1)
    assert there.sum() == mask.sum()
    assert np.abs(pasted[there].astype(int) - (230, 220, 60)).mean() < 8
    assert (pasted[~dilate(there, 8)] == picture[~dilate(there, 8)]).all()


def test_what_falls_off_the_image_is_lost(disc: tuple[Photo, Mask]) -> None:
    picture, mask = disc
    _, there = paste(picture, cut_out(picture, mask), (0.0, 60.0))

    assert 0.3 < there.sum() / mask.sum() < 0.7


def test_a_turned_part_keeps_its_size() -> None:
    picture, _, plate = photo(4)
    piece = turned(cut_out(picture, plate), 90.0)

    rows, columns = np.nonzero(piece.mask)
    assert piece.mask.sum() == pytest.approx(plate.sum(), rel=0.05)
    assert np.ptp(rows) == pytest.approx(65, abs=2)
    assert np.ptp(columns) == pytest.approx(40, abs=2)


@pytest.mark.parametrize("grow", [True, False])
def test_a_level_moves_by_the_step_alone(grow: bool) -> None:
    picture, _, plate = photo(5)
    moved, band = slide(picture, plate, (10 if grow else -10, 0), grow=grow)

    rows, _ = np.nonzero(band)
    assert np.ptp(rows) == 9
    assert band[plate].any() != grow
    wanted = picture[plate].mean(axis=0) if grow else np.array([120, 120, 120])
    inner = band & ~dilate(~band, 3)
    assert np.abs(moved[inner].mean(axis=0) - wanted).max() < 12
    assert (moved[~dilate(band, 6)] == picture[~dilate(band, 6)]).all()


def test_a_mask_keeps_its_share_of_the_image_at_another_size() -> None:
    _, discs, _ = photo(6)

    assert upscaled(discs, (640, 800)).mean() == pytest.approx(discs.mean(), rel=0.05)
