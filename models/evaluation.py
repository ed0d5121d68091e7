"""What an evaluation says: the words and keys of its JSON file, which scripts rely on. Computes nothing.

A figure that does not apply to the dataset is None (null).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

ANOMALY_MAP = "anomaly_map"  # among the scores: an image's is the highest value of its map


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageAuroc(_Frozen):
    """Image AUROC; every one is against all good test images."""

    pooled: float | None  # all anomalous images together
    mean: float | None  # of logical and structural where both exist, else over the folders under test/
    logical: float | None
    structural: float | None
    by_type: dict[str, float | None]  # the folders under test/, then the finer types of labels.csv


class Confusion(_Frozen):
    """Images by what they are and what the verdict was; positive is anomalous, found is rejected."""

    tp: int
    fp: int
    tn: int
    fn: int


class ImageResult(_Frozen):
    """One image's verdict."""

    file: str  # below the dataset, as in test/good/000.png
    type: str
    score: float
    verdict: Literal["accept", "reject"]
    latency_ms: float


class Evaluation(_Frozen):
    """Everything known of one model on one dataset."""

    dataset: str
    bundle: str
    image_auroc: ImageAuroc
    image_auroc_by_score: dict[str, float | None]  # each part of the score alone, and ANOMALY_MAP; pooled
    pixel_auroc: float | None
    au_pro: float | None  # false positive rate limit 0.3
    au_spro: dict[str, float | None]  # by false positive rate limit
    threshold: float
    confusion: Confusion
    images: tuple[ImageResult, ...]
