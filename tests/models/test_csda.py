import pytest
import torch

from models.csda import TOP_CELLS, Aggregation, Csda, image_score, mask_loss

EVERYWHERE = torch.ones(1, 1, 64, 64)


def disc() -> torch.Tensor:
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:30, 20:40] = 1
    return mask


def test_it_sees_three_scales_and_has_under_a_million_parameters() -> None:
    network = Aggregation((24, 40, 112)).eval()
    taps = torch.rand(2, 24, 64, 64), torch.rand(2, 40, 32, 32), torch.rand(2, 112, 16, 16)
    plain = network(taps)
    assert plain.shape == (2, 64, 64)
    for index in range(3):
        changed = [2 * value if place == index else value for place, value in enumerate(taps)]
        assert not torch.equal(network((changed[0], changed[1], changed[2])), plain)
    assert 0.5e6 < sum(value.numel() for value in network.parameters()) < 1e6


def test_an_untrained_network_expects_nothing_wrong() -> None:
    logits = Aggregation((4, 4, 4)).eval()(
        (torch.zeros(1, 4, 64, 64), torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 16, 16))
    )
    assert torch.sigmoid(logits).max() < 0.2


def test_the_loss_falls_towards_the_mask_and_is_least_there() -> None:
    mask = disc().flatten(1)
    losses = [mask_loss(torch.full_like(mask, -3.0) + sure * (2 * mask - 1), mask).item() for sure in (-3, 0, 3, 12)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01


def test_one_missed_cell_of_few_counts_as_much_as_many_false_ones() -> None:
    """The anomalous cells and the others count equally, whatever their number."""
    mask = torch.zeros(1, 4096)
    mask[:, :10] = 1
    right = 8 * (2 * mask - 1)
    missed, false = right.clone(), right.clone()
    missed[:, :5] *= -1
    false[:, 10:15] *= -1
    assert mask_loss(missed, mask) > 2 * mask_loss(false, mask)


def test_an_empty_mask_asks_for_silence() -> None:
    empty = torch.zeros(1, 4096)
    loud = torch.full((1, 4096), -8.0)
    loud[:, :10] = 8
    assert mask_loss(loud, empty) > mask_loss(torch.full((1, 4096), -8.0), empty) + 0.3


def test_the_score_is_that_of_several_cells_where_the_part_is_inspected() -> None:
    logits = torch.full((64, 64), -5.0)
    logits[0, 0] = 100
    assert image_score(logits, EVERYWHERE) == pytest.approx(-5 + 105 / TOP_CELLS)
    region = EVERYWHERE.clone()
    region[..., 0, 0] = 0
    assert image_score(logits, region) == pytest.approx(-5)


def test_a_region_of_few_cells_has_a_score_all_the_same() -> None:
    region = torch.zeros(1, 1, 64, 64)
    region[..., 3, 3:5] = 1
    quiet, loud = torch.full((2, 64, 64), -5.0)
    loud[3, 3] = 5
    assert image_score(loud, region) > image_score(quiet, region)


def test_the_whole_takes_features_as_they_are() -> None:
    csda = Csda((4, 4, 4)).eval()
    taps = torch.randn(1, 4, 64, 64), torch.randn(1, 4, 32, 32), torch.randn(1, 4, 16, 16)
    csda.references.remember([taps, *([(taps[0] + 1, taps[1] + 1, taps[2] + 1)] * 3)], seed=0)
    with torch.inference_mode():
        known = csda(taps, EVERYWHERE)
        nothing = csda.aggregation((torch.zeros_like(taps[0]), torch.zeros_like(taps[1]), torch.zeros_like(taps[2])))
        assert torch.allclose(known, nothing, atol=0.01)
        assert not torch.allclose(csda((5 * taps[0], taps[1], taps[2]), EVERYWHERE), nothing, atol=0.01)
