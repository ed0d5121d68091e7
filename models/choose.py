"""Which of a detector's maps and scores count for a product, judged by anomalies that were made; without labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.anomalies import KIN
from models.detector import Detector, Evidence
from models.fakes import Fake, make_fakes
from models.grid import in_cells

Wins: TypeAlias = npt.NDArray[np.float64]  # (fakes, good images), see `wins`
STUDENT_ALONE = (1.0, 0.0)  # weights of the student's and the auto-encoder's map
WORTH = 0.01  # of AUROC, mean over kinds of fakes: no score is left out for less


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What the detector says of some images, before its scales are set."""

    distances: Tensor  # (n, maps, 64, 64)
    evidence: list[Evidence]  # without their residuals, which are large


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


def choose_maps(detector: Detector, good: Tensor, fake: Tensor, kinds: Sequence[str]) -> None:
    """The student's map alone, unless with the auto-encoder's, or by that one, fakes are told better (standard error).

    The worst of the maps wins the maximum over a good image, and after few steps that is the auto-encoder's by far.

    Args:
        detector: whose `map_weight` is written.
        good: (n, 3, 64, 64) distances of validation images.
        fake: (m, 3, 64, 64) distances of edited ones.
        kinds: (m,) of edits.
    """
    options = [STUDENT_ALONE, (1.0, 1.0), (0.0, 1.0)]
    beaten = []
    for option in options:
        detector.map_weight[:2] = torch.tensor(option).view(2, 1, 1)
        scores, fake_scores = (
            torch.stack([detector.raw_map_parts(item)["maps"] for item in maps]) for maps in (good, fake)
        )
        beaten.append(by_kind(wins(scores, fake_scores), kinds))
    chosen = options[choose_largest(np.stack(beaten), [option == STUDENT_ALONE for option in options])]
    detector.map_weight[:2] = torch.tensor(chosen).view(2, 1, 1)


def choose_parts(detector: Detector, good: Tensor, fake: Tensor, kinds: Sequence[str]) -> None:
    """Keep the parts that together tell fakes from good images best; their weights become 0 or 1.

    A part is left out only if it does harm: the choice is the largest set that is not worse than the best one by more
    than a standard error, or by `WORTH`. Fakes are no anomalies (few say anything of a wrong juice, which components
    are for), so doing without a part has to be earned. CSDA is judged by those alone that are unlike what it has
    learned from; its map is in the anomaly map if its score counts.

    Args:
        detector: whose `part_weight` names the parts that take part, and is written; its `map_weight`, too.
        good: (n, len(parts)) raw parts of validation images.
        fake: (m, len(parts)) raw parts of edited ones.
        kinds: (m,) of edits.
    """
    scale = [(values - detector.part_mean) / detector.part_std for values in (good, fake)]

    def beaten(weight: Tensor) -> Wins:
        detector.part_weight.copy_(weight)
        return wins(detector.fuse(scale[0]), detector.fuse(scale[1]))

    active = detector.part_weight.nonzero().flatten().tolist()
    others = [index for index in active if detector.parts[index] != "csda"]
    weights = []
    for chosen in product((0.0, 1.0), repeat=len(others)):
        if any(chosen):
            weights.append(torch.zeros_like(detector.part_weight))
            weights[-1][others] = torch.tensor(chosen)
    options = np.stack([by_kind(beaten(weight), kinds) for weight in weights])
    best = weights[choose_largest(options, [float(weight.sum()) for weight in weights], slack=WORTH)]
    if len(others) < len(active):
        with_csda = best.clone()
        with_csda[-1] = 1
        if not does_harm(beaten(best), beaten(with_csda), unlike_learned(detector, kinds)):
            best = with_csda
        detector.map_weight[-1] = best[-1]
    detector.part_weight.copy_(best)


def does_harm(without: Wins, with_it: Wins, fair: Sequence[bool]) -> bool:
    """Whether something costs more than it may (`WORTH`, a standard error) of the wins (m, n) over fair fakes (m,).

    There are two kinds of them, of which no error can be told: here it is one over fakes. Without any nothing is known
    against it, and it counts like every score that says something of its own.
    """
    loss = (without - with_it)[np.array(fair)]
    if not len(loss):
        return False
    variance = sum(float(_variance_of_mean(each[np.newaxis])[0]) for each in (loss.mean(axis=0), loss.mean(axis=1)))
    return bool(loss.mean() > max(np.sqrt(variance), WORTH))


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


def unlike_learned(detector: Detector, kinds: Sequence[str]) -> list[bool]:
    """Which fakes (m,) may judge CSDA: those that do not look like what it has learned from."""
    kin = KIN[detector.method.anomalies]
    return [kind not in kin for kind in kinds]


def wins(good: Tensor, fake: Tensor) -> Wins:
    """(m, n): 1 where a fake (m,) scores more than a good image (n,), 1/2 where as much; the mean is the AUROC."""
    difference = fake.double().numpy()[:, None] - good.double().numpy()[None, :]
    return np.asarray((np.sign(difference) + 1) / 2)


def by_kind(won: Wins, kinds: Sequence[str]) -> Wins:
    """(m fakes, n) -> (kinds, n): nobody knows which kinds will come, so each counts as much, however many are made."""
    each = np.array(kinds)
    return np.stack([won[each == kind].mean(axis=0) for kind in dict.fromkeys(kinds)])


def choose_largest(options: npt.NDArray[np.float64], sizes: Sequence[float], *, slack: float = 0.0) -> int:
    """Of options (k, kinds of fakes, n good images) of wins, the largest within a standard error of the best, or slack.

    The error is that of the difference of two AUROCs on the same images (DeLong et al. 1988), with a kind of fakes as
    one, as those of a kind are alike: with few good images one of them must not decide.
    """
    auroc = options.mean(axis=(1, 2))
    deficit = options[auroc.argmax()] - options
    variance = _variance_of_mean(deficit.mean(axis=2)) + _variance_of_mean(deficit.mean(axis=1))
    fair = [
        index for index in range(len(sizes)) if deficit[index].mean() <= max(np.sqrt(variance[index]), slack) + 1e-12
    ]
    return max(fair, key=lambda index: (sizes[index], auroc[index]))


def _variance_of_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(k, n) -> (k,); of a single value nothing is known."""
    count = values.shape[1]
    return values.var(axis=1, ddof=1) / count if count > 1 else np.full(len(values), np.inf)
