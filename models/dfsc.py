"""The Distinctive Feature Separation Constraint (Lee & Kim) and the loss around it. Knows no data and no schedule."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.method import Method


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the networks say of one image in training; the student only of a crop of it."""

    teacher: Tensor  # (B, C, H, W) standardised, of the image that the auto-encoder saw
    autoencoder: Tensor  # (B, C, H, W)
    teacher_crop: Tensor  # (B, C, h, w), where the student looked
    student_teacher: Tensor  # (B, C, h, w), its half that follows the teacher
    autoencoder_crop: Tensor  # (B, C, h, w)
    student_autoencoder: Tensor  # (B, C, h, w), its half that follows the auto-encoder
    student_elsewhere: Tensor | None = None  # (B, C, h, w), its first half on a picture of something else


def total_loss(outputs: Outputs, method: Method) -> Tensor:
    """Eq 7 of the report, with every squared L2 distance taken as a mean over elements.

    Without `separation` and with `penalty` it is EfficientAD's.
    """
    loss = F.mse_loss(outputs.student_autoencoder, outputs.autoencoder_crop)
    loss = loss + F.mse_loss(outputs.autoencoder, outputs.teacher)
    loss = loss + hard_mean((outputs.teacher_crop - outputs.student_teacher) ** 2, method.quantile)
    if outputs.student_elsewhere is not None:
        loss = loss + outputs.student_elsewhere.square().mean()
    if method.separation:
        loss = loss + method.weight * separation_loss(outputs.teacher, outputs.autoencoder, method)
    return loss


def hard_mean(squared: Tensor, quantile: float) -> Tensor:
    """Mean of the elements at or above their quantile (Eq 2), over the whole tensor."""
    flat = squared.flatten()
    return flat.topk(_kept(flat.numel(), quantile)).values.mean()


def separation_loss(teacher: Tensor, autoencoder: Tensor, method: Method) -> Tensor:
    """L_DFSC (Eq 3-6): where the auto-encoder differs most from the teacher, keep it a margin away.

    Mask, then normalise, as Eq 4 is written, or the other way round; locations with nothing left contribute the
    constant m.
    """
    squared = ((teacher - autoencoder) ** 2).detach().flatten(1)
    threshold = squared.topk(_kept(squared.shape[1], method.quantile)).values[:, -1]
    mask = (squared >= threshold[:, None]).view_as(teacher)
    if method.norm_order == "mask first":
        distance = _unit(teacher * mask) - _unit(autoencoder * mask)
    else:
        distance = (_unit(teacher) - _unit(autoencoder)) * mask
    norm = (distance.square().sum(dim=1) + 1e-12).sqrt()  # D of Eq 5, (B, H, W)
    return (method.margin - norm).clamp(min=0).mean()


def _kept(elements: int, quantile: float) -> int:
    return max(1, round(elements * (1 - quantile)))


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
