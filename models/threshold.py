"""The threshold of the image score, and what can be said for it; from the scores of good images alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, nct, norm

Scores = npt.NDArray[np.float64]  # (n,)


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
