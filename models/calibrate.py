"""Brings a trained detector's maps and scores to one scale, and finds its threshold; from good images only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta, nct, norm
from sklearn.covariance import LedoitWolf
from torch import Tensor

from models.detector import Detector

Scores = npt.NDArray[np.float64]  # (n,)
MAP_QUANTILES = (0.9, 0.995)  # of EfficientAD's map normalisation
TRIM = (0.2, 0.8)  # quantiles between which a part's mean and deviation are taken


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The threshold (reject when score > value) and what can be said for it."""

    value: float
    false_reject_target: float
    confidence: float
    method: str
    validation_images: int
    shown_false_reject_rate: float  # upper bound at this confidence that the images alone can show

    @property
    def is_shown(self) -> bool:
        """Whether the images alone, without an assumption on the scores' distribution, bear the target out."""
        return self.shown_false_reject_rate <= self.false_reject_target


@torch.inference_mode()
def calibrate(
    detector: Detector, train: Sequence[Tensor], validation: Sequence[Tensor], progress: Callable[[int, int], None]
) -> None:
    """Fill the detector's normalisation from good images.

    Args:
        detector: with trained networks; its buffers are written.
        train: network images (1, 3, 256, 256) in 0..1 that the global feature distance is fitted on.
        validation: network images that training has not seen, for everything that sets a scale.
        progress: called with images done and in total.
    """
    total = len(train) + len(validation)
    embeddings, residuals = [], ResidualMoments()
    for done, image in enumerate(train, start=1):
        evidence = detector.evidence(image)
        embeddings.append(evidence.embedding)
        residuals.add(evidence.residuals)
        progress(done, total)
    fit_global_distance(detector, torch.stack(embeddings))
    residuals.fit(detector)
    judged = []
    for done, image in enumerate(validation, start=len(train) + 1):
        judged.append(detector.evidence(image))
        progress(done, total)
    fit_maps(detector, torch.stack([detector.maps(evidence) for evidence in judged]))
    fit_parts(detector, torch.stack([detector.raw_parts(evidence) for evidence in judged]))


class ResidualMoments:
    """Mean of the residuals at each place, and their covariance about it over all places, gathered image by image."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros(())  # becomes (2, C, P)
        self.products = torch.zeros(())  # becomes (2, C, C), summed over places

    def add(self, residuals: Tensor) -> None:
        """One image's residuals, (2, C, 64, 64)."""
        values = residuals.flatten(2).double()
        self.count += 1
        self.total = self.total + values
        self.products = self.products + torch.bmm(values, values.transpose(1, 2))

    def fit(self, detector: Detector) -> None:
        """Write `residual_mean` and `residual_whitening`; the covariance is shrunk by 0.1 % towards a sphere."""
        mean = self.total / self.count
        places = mean.shape[2]
        covariance = self.products / (self.count * places) - torch.bmm(mean, mean.transpose(1, 2)) / places
        power = covariance.diagonal(dim1=1, dim2=2).mean(dim=1).view(2, 1, 1)
        eigenvalues, vectors = torch.linalg.eigh(covariance + 1e-3 * power * torch.eye(covariance.shape[1]))
        detector.residual_mean.copy_(mean)
        detector.residual_whitening.copy_((vectors / eigenvalues.sqrt().unsqueeze(1)).transpose(1, 2))


def fit_global_distance(detector: Detector, embeddings: Tensor) -> None:
    """Mahalanobis distance of embeddings (n, D) of the training images (PUAD), with a Ledoit-Wolf covariance."""
    values = embeddings.double().numpy()
    detector.centre.copy_(torch.from_numpy(values.mean(axis=0)))
    detector.whitening.copy_(torch.from_numpy(whitening_of(values)))


def whitening_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """W (D, D) such that |W (x - mean)| is the Mahalanobis distance among these values (n, D)."""
    scale = values.std(axis=0) + 1e-6
    eigenvalues, vectors = np.linalg.eigh(LedoitWolf().fit(values / scale).covariance_)
    whitening: npt.NDArray[np.float64] = (vectors / np.sqrt(eigenvalues)).T / scale
    return whitening


def fit_maps(detector: Detector, maps: Tensor) -> None:
    """EfficientAD's quantile normalisation of each map, over the inspected cells of validation maps (n, 2, 64, 64)."""
    inspected = detector.region[0, 0].bool()
    pixels = maps[:, :, inspected].transpose(0, 1).flatten(1).double().numpy()
    low, high = np.quantile(pixels, MAP_QUANTILES, axis=1)
    detector.map_low.copy_(torch.from_numpy(low).view(2, 1, 1))
    detector.map_high.copy_(torch.from_numpy(np.maximum(high, low + 1e-6)).view(2, 1, 1))


def fit_parts(detector: Detector, raw_parts: Tensor) -> None:
    """Trimmed z-norm of each part of the image score on the validation images, raw_parts (n, K)."""
    for index, values in enumerate(raw_parts.double().numpy().T):
        mean, deviation = trimmed_moments(values)
        detector.part_mean[index] = mean
        detector.part_std[index] = deviation


def trimmed_moments(values: Scores) -> tuple[float, float]:
    """Mean and deviation of the normal distribution whose middle is that of the values; outliers do not count."""
    low, high = np.quantile(values, TRIM)
    middle = values[(values >= low) & (values <= high)]
    reach = norm.ppf(TRIM[1])
    shrinkage = np.sqrt(1 - 2 * reach * norm.pdf(reach) / (TRIM[1] - TRIM[0]))  # deviation of a normal's middle
    return float(middle.mean()), max(float(middle.std() / shrinkage), 1e-6 * max(1.0, abs(float(middle.mean()))))


def choose_threshold(scores: Scores, *, target: float, confidence: float) -> ThresholdChoice:
    """The lowest threshold that keeps false rejects under the target with this confidence.

    With enough images it is one of their own scores (binomial bound of Clopper-Pearson, no assumption on how scores are
    distributed). With fewer, the images alone cannot show the target: then it is the one-sided tolerance bound of a
    normal distribution, but no lower than the highest score seen, and the choice says what the images do show.

    Args:
        scores: of good images that nothing was trained on, (n,) with n >= 2.
        target: share of good parts that may be rejected.
        confidence: that the share is not exceeded.
    """
    ordered = np.sort(scores)[::-1]
    count = len(ordered)
    allowed = allowed_rejects(count, target, confidence)
    if allowed is not None:
        bound = false_reject_bound(allowed, count, confidence)
        return ThresholdChoice(float(ordered[allowed]), target, confidence, "order statistic", count, bound)
    factor = nct.ppf(confidence, df=count - 1, nc=norm.ppf(1 - target) * np.sqrt(count)) / np.sqrt(count)
    value = max(float(scores.mean() + factor * scores.std(ddof=1)), float(ordered[0]))
    bound = false_reject_bound(0, count, confidence)
    return ThresholdChoice(value, target, confidence, "normal tolerance bound", count, bound)


def allowed_rejects(count: int, target: float, confidence: float) -> int | None:
    """How many of so many good images may lie over the threshold; None when even zero shows too little."""
    shown = [k for k in range(count) if false_reject_bound(k, count, confidence) <= target]
    return shown[-1] if shown else None


def false_reject_bound(rejected: int, count: int, confidence: float) -> float:
    """Upper confidence bound (Clopper-Pearson) of the false-reject rate after `rejected` of `count` good images."""
    return float(beta.ppf(confidence, rejected + 1, count - rejected))
