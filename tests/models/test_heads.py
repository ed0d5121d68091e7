import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from models.grid import GRID
from models.heads import Components, Distance


@pytest.fixture
def components() -> Components:
    torch.manual_seed(0)
    head = Components(6)
    for name in ("weight", "bias", "colours"):
        getattr(head, name).normal_()
    return head


def half() -> torch.Tensor:
    region = torch.zeros(1, 1, GRID, GRID)
    region[..., : GRID // 2] = 1
    return region


def test_the_distance_is_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
    precision = np.linalg.inv(np.cov(values.T))
    head = Distance(4)
    head.means.copy_(torch.from_numpy(values.mean(axis=0)))
    head.whitening.copy_(torch.from_numpy(np.linalg.cholesky(precision).T))
    for value in values[:5]:
        expected = mahalanobis(value, values.mean(axis=0), precision)
        assert head(torch.from_numpy(value).float()).item() == pytest.approx(expected, rel=1e-4)


def test_the_distance_is_that_to_the_nearest_kind() -> None:
    head = Distance(2)
    head.means.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.0]]).repeat(head.KINDS // 2, 1))
    assert head(torch.tensor([9.0, 0.0])).item() == pytest.approx(1)
    assert head(torch.tensor([5.0, 0.0])).item() == pytest.approx(5)  # of two kinds, the middle is neither


def test_the_shares_of_a_cell_sum_to_one(components: Components) -> None:
    shares = components.shares(torch.randn(6, GRID * GRID))
    assert shares.shape == (Components.COUNT, GRID * GRID)
    assert torch.allclose(shares.sum(dim=0), torch.ones(GRID * GRID), atol=1e-5)


@pytest.mark.parametrize("region", [torch.ones(1, 1, GRID, GRID), half()], ids=["everywhere", "half"])
def test_the_areas_sum_to_one_over_the_region(components: Components, region: torch.Tensor) -> None:
    described = components(torch.randn(1, 6, GRID, GRID), region)
    assert described.shape == (Components.DIMENSION,)
    areas = described[: Components.COUNT]
    assert (areas >= 0).all()
    assert areas.sum().item() == pytest.approx(1, abs=1e-5)


def test_what_lies_outside_the_region_is_not_described(components: Components) -> None:
    features = torch.randn(1, 6, GRID, GRID)
    changed = features.clone()
    changed[..., GRID // 2 :] += 5
    assert torch.equal(components(features, half()), components(changed, half()))
    assert not torch.allclose(components(features, 1 - half()), components(changed, 1 - half()))


def test_a_component_that_grows_has_a_larger_area() -> None:
    """Two components, told apart by the first feature's sign."""
    head = Components(2)
    head.weight[0, 0], head.weight[1, 0] = 100, -100
    head.bias[2:] = -1000
    features = torch.ones(1, 2, GRID, GRID)
    features[:, :, GRID // 4 :] = -1
    areas = head(features, torch.ones(1, 1, GRID, GRID))[:2]
    assert areas.tolist() == pytest.approx([0.25, 0.75], abs=1e-4)
