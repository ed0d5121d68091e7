"""Which of a detector's maps and scores count for a product, judged by anomalies that were made; without labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from models.anomalies import KIN
from models.detector import Detector, Evidence
from models.fakes import Fake, make_fakes
from models.grid import GRID

STANDS_OUT = 0.995  # quantile of a good image's cells that an edit's mean has to be above


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What the detector says of some images, before its scales are set."""

    distances: Tensor  # (n, 3, 64, 64)
    evidence: list[Evidence]  # without their residuals, which are large

    def only(self, chosen: Sequence[bool]) -> "Looks":
        """Of some of the images."""
        kept = [item for item, wanted in zip(self.evidence, chosen, strict=True) if wanted]
        return Looks(self.distances[list(chosen)], kept)


def look(detector: Detector, images: Sequence[Tensor], progress: Callable[[int], None]) -> Looks:
    """Judge images as far as it goes without a scale."""
    distances, kept = [], []
    for done, image in enumerate(images, start=1):
        evidence = detector.evidence(image)
        distances.append(detector.distances(evidence.residuals))
        kept.append(replace(evidence, residuals=torch.zeros(0)))
        progress(done)
    return Looks(torch.stack(distances) if distances else torch.zeros(0), kept)


def raw_parts(detector: Detector, looks: Looks) -> Tensor:
    """(n, len(parts)), not yet on one scale."""
    return torch.stack([detector.raw_parts(*item) for item in zip(looks.evidence, looks.distances, strict=True)])


def choose_maps(detector: Detector, good: Tensor, fake: Tensor) -> None:
    """Leave out the student's or the auto-encoder's map where the other alone tells fakes from good images better.

    Args:
        detector: whose `map_weight` is written.
        good: (n, 3, 64, 64) distances of validation images.
        fake: (m, 3, 64, 64) distances of edited ones.
    """
    options = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    beaten = []
    for option in options:
        detector.map_weight[:2] = torch.tensor(option).view(2, 1, 1)
        scores, fake_scores = (torch.stack([detector.raw_map_parts(item)[0] for item in maps]) for maps in (good, fake))
        beaten.append(wins(scores, fake_scores))
    chosen = options[choose_largest(np.stack(beaten), [sum(option) for option in options])]
    detector.map_weight[:2] = torch.tensor(chosen).view(2, 1, 1)


def choose_csda_map(detector: Detector, good: Looks, fake: Looks, masks: Sequence[Tensor]) -> None:
    """Let CSDA's map into the anomaly map if edits then stand out better, by more than a standard error.

    An edit stands out from a good image as far as its mean is above that image's highest cells (`STANDS_OUT`).

    Args:
        detector: with CSDA; its `map_weight` is written.
        good: of validation images.
        fake: of edited ones that are unlike what CSDA has learned from.
        masks: (256, 256) each, where they were edited.
    """
    inspected = detector.region[0, 0]
    beaten = []
    for weight in (0.0, 1.0):
        detector.map_weight[-1] = weight
        ordinary = [anomaly_map[inspected.bool()].quantile(STANDS_OUT) for anomaly_map in anomaly_maps(detector, good)]
        shown = [
            (anomaly_map * cells).sum() / cells.sum().clamp(min=1e-6)
            for anomaly_map, cells in zip(
                anomaly_maps(detector, fake), (in_cells(mask) * inspected for mask in masks), strict=True
            )
        ]
        beaten.append(wins(torch.stack(ordinary), torch.stack(shown)))
    detector.map_weight[-1] = float(choose_largest(np.stack(beaten), [1, 0]))  # of equal ones, the smaller map


def anomaly_maps(detector: Detector, looks: Looks) -> list[Tensor]:
    """(64, 64) of each image."""
    together = zip(looks.evidence, looks.distances, strict=True)
    return [detector.anomaly_map(detector.shown_maps(*one))[0] for one in together]


def in_cells(mask: Tensor) -> Tensor:
    """(256, 256) -> (64, 64), the mean over each cell."""
    return F.avg_pool2d(mask[None, None], mask.shape[-1] // GRID)[0, 0]


def choose_parts(detector: Detector, good: Tensor, fake: Tensor, fair: Sequence[bool]) -> None:
    """Keep the parts that together tell fakes from good images best; their weights become 0 or 1.

    A part is left out only if it does harm: the choice is the largest set that is not worse than the best one by more
    than a standard error. Fakes are no anomalies, so doing without a part has to be earned. CSDA is added last, if it
    does no harm on fakes that are unlike what it has learned from.

    Args:
        detector: whose `part_weight` names the parts that take part, and is written.
        good: (n, len(parts)) raw parts of validation images.
        fake: (m, len(parts)) raw parts of edited ones.
        fair: (m,) which of them are `unlike_learned`.
    """
    active = detector.part_weight.nonzero().flatten().tolist()
    csda = [index for index in active if detector.parts[index] == "csda"]
    others = [index for index in active if index not in csda]
    weights = []
    for chosen in product((0.0, 1.0), repeat=len(others)):
        if any(chosen):
            weights.append(torch.zeros_like(detector.part_weight))
            weights[-1][others] = torch.tensor(chosen)
    best = _largest_set(detector, weights, good, fake)
    if csda and any(fair):
        with_csda = best.clone()
        with_csda[csda] = 1
        best = _largest_set(detector, [best, with_csda], good, fake[list(fair)])
    detector.part_weight.copy_(best)


def _largest_set(detector: Detector, weights: Sequence[Tensor], good: Tensor, fake: Tensor) -> Tensor:
    """Of weights, the largest within a standard error of the best."""
    scale = [(values - detector.part_mean) / detector.part_std for values in (good, fake)]
    beaten = []
    for weight in weights:
        detector.part_weight.copy_(weight)
        beaten.append(wins(detector.fuse(scale[0]), detector.fuse(scale[1])))
    return weights[choose_largest(np.stack(beaten), [float(weight.sum()) for weight in weights])]


def judging_fakes(
    detector: Detector, validation: Sequence[Tensor], generated: Sequence[Fake], *, per_kind: int, seed: int
) -> list[Fake]:
    """All anomalies to choose by, as far as they lie where the part is inspected.

    Args:
        detector: with its region.
        validation: good network images that makeshift anomalies are made of.
        generated: ComGEN's.
        per_kind: how many makeshift ones of each kind.
        seed: of those.
    """
    makeshift = make_fakes(validation, seed, per_kind=per_kind, region=detector.region)
    return makeshift + [item for item in generated if (in_cells(item.mask) * detector.region[0, 0]).any()]


def unlike_learned(detector: Detector, fakes: Sequence[Fake]) -> list[bool]:
    """Which fakes may judge CSDA: those that do not look like what it has learned from."""
    kin = KIN[detector.method.anomalies]
    return [fake.kind not in kin for fake in fakes]


def wins(good: Tensor, fake: Tensor) -> npt.NDArray[np.float64]:
    """(m, n): 1 where a fake (m,) scores more than a good image (n,), 1/2 where as much; the mean is the AUROC."""
    difference = fake.double().numpy()[:, None] - good.double().numpy()[None, :]
    return np.asarray((np.sign(difference) + 1) / 2)


def choose_largest(options: npt.NDArray[np.float64], sizes: Sequence[float]) -> int:
    """Of options (k, m fakes, n good images) of wins, the largest within a standard error of the best.

    The error is that of the difference of two AUROCs on the same images (DeLong et al. 1988): with few good images one
    of them must not decide.
    """
    auroc = options.mean(axis=(1, 2))
    deficit = options[auroc.argmax()] - options
    variance = _variance_of_mean(deficit.mean(axis=2)) + _variance_of_mean(deficit.mean(axis=1))
    fair = [index for index in range(len(sizes)) if deficit[index].mean() <= np.sqrt(variance[index]) + 1e-12]
    return max(fair, key=lambda index: (sizes[index], auroc[index]))


def _variance_of_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(k, n) -> (k,); of a single value nothing is known."""
    count = values.shape[1]
    return values.var(axis=1, ddof=1) / count if count > 1 else np.full(len(values), np.inf)
