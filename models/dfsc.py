"""The Distinctive Feature Separation Constraint (Lee & Kim) and the loss around it. Knows no data and no schedule."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the report leaves to choose."""

    margin: float = 0.4  # m of Eq 6, in 0..2
    quantile: float = 0.999  # behind tau (Eq 2) and tau' (Eq 3), per image and element
    weight: float = 2.0  # alpha of Eq 7


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The terms of Eq 7, each a scalar, and their sum."""

    student_autoencoder: Tensor
    teacher_autoencoder: Tensor
    teacher_student: Tensor
    constraint: Tensor
    total: Tensor


def losses(
    teacher: Tensor,
    student: Tensor,
    autoencoder: Tensor,
    *,
    teacher_crop: Tensor,
    autoencoder_crop: Tensor,
    rule: Constraint,
) -> Losses:
    """Eq 7 of the report, with every squared L2 distance taken as a mean over elements.

    Args:
        teacher: (B, C, H, W) standardised features of the whole image.
        student: (B, 2C, h, w) both halves of the student, on a crop of the grid.
        autoencoder: (B, C, H, W) of the whole image.
        teacher_crop: (B, C, h, w), the teacher where the student looked.
        autoencoder_crop: (B, C, h, w), the auto-encoder where the student looked.
        rule: margin, quantile and weight.
    """
    student_teacher, student_autoencoder = student.chunk(2, dim=1)
    d_sa = F.mse_loss(student_autoencoder, autoencoder_crop)
    d_ta = F.mse_loss(autoencoder, teacher)
    d_ts = hard_mean((teacher_crop - student_teacher) ** 2, rule.quantile)
    separation = separation_loss(teacher, autoencoder, rule)
    return Losses(d_sa, d_ta, d_ts, separation, d_sa + d_ta + d_ts + rule.weight * separation)


def hard_mean(squared: Tensor, quantile: float) -> Tensor:
    """Mean of the elements at or above their quantile (Eq 2), over the whole tensor."""
    flat = squared.flatten()
    return flat.topk(_kept(flat.numel(), quantile)).values.mean()


def separation_loss(teacher: Tensor, autoencoder: Tensor, rule: Constraint) -> Tensor:
    """L_DFSC (Eq 3-6): where the auto-encoder differs most from the teacher, keep it a margin away.

    Mask, then normalise, as Eq 4 is written; locations with nothing left contribute the constant m.
    """
    squared = ((teacher - autoencoder) ** 2).detach().flatten(1)
    threshold = squared.topk(_kept(squared.shape[1], rule.quantile)).values[:, -1]
    mask = (squared >= threshold[:, None]).view_as(teacher)
    distance = _unit(teacher * mask) - _unit(autoencoder * mask)
    norm = (distance.square().sum(dim=1) + 1e-12).sqrt()  # D of Eq 5, (B, H, W)
    return (rule.margin - norm).clamp(min=0).mean()


def _kept(elements: int, quantile: float) -> int:
    return max(1, round(elements * (1 - quantile)))


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
