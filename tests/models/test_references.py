import pytest
import torch
from torch import Tensor

from models.references import CANDIDATES, COUNT, References, doubled, match, offsets, otsu, residual_map, residual_mask
from models.teacher import Scales

C = 4
EVERYWHERE = torch.ones(1, 1, 64, 64)
INNER = (..., slice(8, -8), slice(8, -8))


def pyramid(fine: Tensor) -> Scales:
    return fine, torch.nn.functional.avg_pool2d(fine, 2), torch.nn.functional.avg_pool2d(fine, 4)


def images(count: int, seed: int = 0) -> list[Scales]:
    generator = torch.Generator().manual_seed(seed)
    return [pyramid(torch.randn(1, C, 64, 64, generator=generator)) for _ in range(count)]


def filled(features: list[Scales]) -> References:
    references = References((C, C, C))
    references.remember(features, seed=0)
    return references


def rolled(features: Tensor, down: int, right: int) -> Tensor:
    return features.roll((down, right), (-2, -1))


def test_an_image_is_never_its_own_reference() -> None:
    known = images(8)
    references = filled(known)
    for index, taps in enumerate(known):
        seen = references.standardise(taps)
        source = torch.tensor([index])
        assert residual_map(references(seen, EVERYWHERE)).max() < 0.01  # as a new image it is
        for rank in range(CANDIDATES):
            assert residual_map(references(seen, EVERYWHERE, source, torch.tensor([rank]))).mean() > 0.3
        assert residual_map(references(seen, EVERYWHERE, source)).mean() > 0.3


def test_a_rank_is_that_of_the_nearest_images() -> None:
    base = torch.randn(1, C, 64, 64)
    noise = torch.randn(6, C, 64, 64)
    known = [pyramid(base + amount * noise[index]) for index, amount in enumerate((0.1, 0.2, 0.3, 3.0, 4.0, 5.0))]
    references = filled(known)
    ranks = torch.arange(CANDIDATES)
    seen = tuple(taps.expand(CANDIDATES, -1, -1, -1) for taps in references.standardise(pyramid(base)))
    fine, middle, coarse = seen
    levels = residual_map(references((fine, middle, coarse), EVERYWHERE, None, ranks)).mean(dim=(1, 2))
    assert levels.tolist() == sorted(levels.tolist())
    assert levels[-1] < residual_map(references(references.standardise(known[3]), EVERYWHERE)).mean() + 1


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 1), (0, 0)])
def test_a_move_within_reach_leaves_no_difference(down: int, right: int) -> None:
    reference = torch.randn(1, C, 32, 32)
    nowhere = torch.zeros(1, 2, 32, 32, dtype=torch.long)
    difference, shift = match(rolled(reference, down, right), reference, nowhere, reach=1)
    assert difference[..., 2:-2, 2:-2].max() == 0
    assert (shift[0, 0, 4:-4, 4:-4] == -down).all()
    assert (shift[0, 1, 4:-4, 4:-4] == -right).all()


def test_a_move_beyond_reach_shows() -> None:
    reference = torch.randn(1, C, 32, 32)
    nowhere = torch.zeros(1, 2, 32, 32, dtype=torch.long)
    assert match(rolled(reference, 2, 0), reference, nowhere, reach=1)[0].mean() > 0.5
    assert match(rolled(reference, 1, 0), reference, nowhere, reach=0)[0].mean() > 0.5


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_a_part_that_lies_a_little_off_is_found_from_scale_to_scale(cells: int) -> None:
    """Three cells at stride 4 are one at stride 8 and one more; what stride 8 cannot see moves at stride 4 alone."""
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(1, C, 68, 68, generator=generator), 5, stride=1)
    references = filled([pyramid(smooth), *images(3)])
    fine, _, _ = references(references.standardise(pyramid(rolled(smooth, cells, 0))), EVERYWHERE)
    far, _, _ = references(references.standardise(pyramid(rolled(smooth, 6, 0))), EVERYWHERE)
    assert fine[INNER].mean() < 0.05
    assert far[INNER].mean() > 0.15


def test_each_places_moves_are_those_of_its_coarser_cell() -> None:
    shift = torch.tensor([[[[1, 0]], [[0, -1]]]])
    assert doubled(shift).tolist() == [[[[2, 2, 0, 0]] * 2, [[0, 0, -2, -2]] * 2]]
    assert offsets(1)[0] == (0, 0)
    assert len(offsets(2)) == 25


def test_what_is_remembered_leaves_no_kind_of_image_out() -> None:
    common = torch.randn(1, C, 64, 64)
    alike = [pyramid(common + 0.01 * torch.randn(1, C, 64, 64)) for _ in range(90)]
    rare = images(10)
    references = filled([*alike, *rare])
    assert len(references.sources) == COUNT == len(set(references.sources.tolist()))
    assert set(range(90, 100)) <= set(references.sources.tolist())


def test_of_few_images_all_are_remembered_and_empty_entries_never_chosen() -> None:
    references = filled(images(5))
    assert sorted(references.sources.tolist()) == [-1] * (COUNT - 5) + list(range(5))
    chosen = references.distances(images(1, seed=9)[0][2], EVERYWHERE).topk(5, largest=False).indices
    assert (references.sources[chosen] >= 0).all()


def test_the_reference_is_chosen_by_what_is_inspected() -> None:
    left, right = images(2)
    references = filled([left, right, *images(4, seed=5)])
    mixed = pyramid(torch.cat([left[0][..., :32], right[0][..., 32:]], dim=-1))
    half = EVERYWHERE.clone()
    half[..., 32:] = 0
    for region, expected in ((half, 0), (1 - half, 1)):
        nearest = references.distances(references.standardise(mixed)[2], region).argmin()
        assert references.sources[nearest] == expected


def test_otsu_divides_two_kinds_of_values() -> None:
    values = torch.cat([torch.linspace(0, 1, 50), torch.linspace(8, 9, 20)])
    assert 1 < otsu(values) < 8


def edit(rows: slice) -> Tensor:
    edited = torch.zeros(256, 256)
    edited[rows, 64:128] = 1
    return edited


def quiet() -> Tensor:
    return 0.1 * torch.rand(64, 64, generator=torch.Generator().manual_seed(0))


def test_a_mask_is_what_can_be_seen_of_the_edit_and_nothing_else() -> None:
    residual = quiet()
    residual[20:24, 16:32] = 1  # seen, in the edit
    residual[50:60, 50:60] = 1  # seen, elsewhere
    mask = residual_mask(edit(slice(64, 128)), residual, normal=0.1)
    assert mask is not None
    expected = torch.zeros(64, 64)
    expected[20:24, 16:32] = 1
    assert torch.equal(mask, expected)


def test_an_edit_that_differs_no_more_than_good_images_do_is_invisible() -> None:
    assert residual_mask(edit(slice(64, 128)), quiet(), normal=0.099) is None
    assert residual_mask(torch.zeros(256, 256), 10 * quiet(), normal=0.01) is None


def test_a_strong_difference_does_not_hide_another() -> None:
    residual = quiet()
    residual[16:20, 16:32], residual[20:32, 16:32] = 10, 1
    mask = residual_mask(edit(slice(64, 128)), residual, normal=0.1)
    assert mask is not None
    assert otsu(residual) > 1
    assert mask[16:32, 16:32].all()


def test_a_soft_edge_stays_soft() -> None:
    residual = quiet()
    residual[16:32, 16:32] = 1
    mask = residual_mask(0.5 * edit(slice(64, 128)), residual, normal=0.1)
    assert mask is not None
    assert mask.max() == 0.5
