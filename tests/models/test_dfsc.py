import math
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.dfsc import Outputs, hard_mean, separation_loss, total_loss
from models.method import Method


def column(*values: float) -> Tensor:
    """Features at one location, (1, C, 1, 1)."""
    return torch.tensor(values).view(1, -1, 1, 1)


def test_hard_mean_takes_the_elements_at_or_above_the_quantile() -> None:
    assert hard_mean(torch.arange(1000.0), 0.99).item() == pytest.approx(994.5)


def test_hard_mean_of_few_elements_is_their_maximum() -> None:
    assert hard_mean(torch.tensor([1.0, 5.0, 2.0]), 0.999).item() == 5


def test_separation_at_one_location_is_equation_5() -> None:
    orthogonal = separation_loss(column(3, 4), column(4, -3), Method(margin=2.0, quantile=0.0))
    assert orthogonal.item() == pytest.approx(2 - math.sqrt(2), abs=1e-5)


def test_masking_first_compares_directions_of_what_is_left() -> None:
    """The last two of three channels are left: (2, 1) and (1, 2), each over the root of 5."""
    method = Method(margin=1.0, quantile=1 / 3, norm_order="mask first")
    loss = separation_loss(column(2, 2, 1), column(2, 1, 2), method)
    assert loss.item() == pytest.approx(1 - math.sqrt(2 / 5), abs=1e-5)


def test_normalising_first_leaves_part_of_the_whole_direction() -> None:
    """(2, 2, 1) / 3 and (2, 1, 2) / 3 differ by a third in the last two channels."""
    method = Method(margin=1.0, quantile=1 / 3, norm_order="norm first")
    loss = separation_loss(column(2, 2, 1), column(2, 1, 2), method)
    assert loss.item() == pytest.approx(1 - math.sqrt(2) / 3, abs=1e-5)


@pytest.mark.parametrize("order", ["mask first", "norm first"])
def test_a_location_with_nothing_left_costs_the_margin(order: Literal["mask first", "norm first"]) -> None:
    teacher = torch.zeros(1, 1, 1, 2)
    teacher[..., 1] = 1.0
    method = Method(margin=0.4, quantile=0.5, norm_order=order)
    loss = separation_loss(teacher, -teacher, method)
    assert loss.item() == pytest.approx(0.4 / 2, abs=1e-5)  # the other location is 2 apart and costs nothing


def test_separation_pushes_the_auto_encoder_away_and_is_never_nan() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(1, 16, 8, 8)
    autoencoder = (teacher + 0.01 * torch.randn_like(teacher)).requires_grad_()
    method = Method(margin=2.0, quantile=0.5)
    separation_loss(teacher, autoencoder, method).backward()  # type: ignore[no-untyped-call]
    assert autoencoder.grad is not None
    assert torch.isfinite(autoencoder.grad).all()
    moved = (autoencoder - 0.1 * autoencoder.grad / autoencoder.grad.abs().max()).detach()
    assert separation_loss(teacher, moved, method) < separation_loss(teacher, autoencoder.detach(), method)


@pytest.mark.parametrize("separation", [True, False])
@pytest.mark.parametrize("penalty", [True, False])
def test_the_total_is_the_sum_of_its_terms(*, separation: bool, penalty: bool) -> None:
    torch.manual_seed(0)
    teacher, autoencoder = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    half, other_half, elsewhere = torch.randn(3, 1, 4, 3, 3)
    crop = (..., slice(2, 5), slice(1, 4))
    method = Method(weight=3.0, quantile=0.9, margin=2.0, separation=separation)
    outputs = Outputs(
        teacher, autoencoder, teacher[crop], half, autoencoder[crop], other_half, elsewhere if penalty else None
    )
    terms = [  # Eq 7, then EfficientAD's penalty
        F.mse_loss(other_half, autoencoder[crop]),
        F.mse_loss(autoencoder, teacher),
        hard_mean((teacher[crop] - half) ** 2, 0.9),
        3 * separation_loss(teacher, autoencoder, method) if separation else torch.zeros(()),
        elsewhere.square().mean() if penalty else torch.zeros(()),
    ]
    assert total_loss(outputs, method).item() == pytest.approx(sum(term.item() for term in terms))
