import math

import pytest
import torch

from models.dfsc import Constraint, hard_mean, losses, separation_loss


def test_hard_mean_takes_the_elements_at_or_above_the_quantile() -> None:
    assert hard_mean(torch.arange(1000.0), 0.99).item() == pytest.approx(994.5)


def test_hard_mean_of_few_elements_is_their_maximum() -> None:
    assert hard_mean(torch.tensor([1.0, 5.0, 2.0]), 0.999).item() == 5


def test_separation_at_one_location_is_equation_5() -> None:
    teacher = torch.zeros(1, 2, 1, 1)
    teacher[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    autoencoder = torch.zeros(1, 2, 1, 1)
    autoencoder[0, :, 0, 0] = torch.tensor([4.0, -3.0])  # orthogonal: D = sqrt(2)
    loss = separation_loss(teacher, autoencoder, Constraint(margin=2.0, quantile=0.0))
    assert loss.item() == pytest.approx(2 - math.sqrt(2), abs=1e-5)


def test_a_location_with_nothing_left_costs_the_margin() -> None:
    teacher = torch.zeros(1, 1, 1, 2)
    teacher[..., 1] = 1.0
    loss = separation_loss(teacher, -teacher, Constraint(margin=0.4, quantile=0.5))
    assert loss.item() == pytest.approx(0.4 / 2, abs=1e-5)  # the other location is 2 apart and costs nothing


def test_separation_pushes_the_auto_encoder_away_and_is_never_nan() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(1, 16, 8, 8)
    autoencoder = (teacher + 0.01 * torch.randn_like(teacher)).requires_grad_()
    rule = Constraint(margin=2.0, quantile=0.5)
    separation_loss(teacher, autoencoder, rule).backward()
    assert autoencoder.grad is not None
    assert torch.isfinite(autoencoder.grad).all()
    moved = (autoencoder - 0.1 * autoencoder.grad / autoencoder.grad.abs().max()).detach()
    assert separation_loss(teacher, moved, rule) < separation_loss(teacher, autoencoder.detach(), rule)


def test_the_total_is_equation_7() -> None:
    torch.manual_seed(0)
    teacher, autoencoder = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    student = torch.randn(1, 8, 3, 3)
    crop = (..., slice(2, 5), slice(1, 4))
    result = losses(
        teacher,
        student,
        autoencoder,
        teacher_crop=teacher[crop],
        autoencoder_crop=autoencoder[crop],
        rule=Constraint(weight=2.0),
    )
    terms = (result.student_autoencoder, result.teacher_autoencoder, result.teacher_student, 2 * result.constraint)
    assert result.total.item() == pytest.approx(sum(term.item() for term in terms))
