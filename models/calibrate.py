"""Brings a trained detector's maps and scores to one scale and finds its threshold; from good images only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta, nct, norm
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn import functional as F

from models.anomalies import KIN
from models.detector import Detector, Evidence
from models.fakes import Fake, make_fakes
from models.grid import GRID
from models.heads import Distance
from models.normals import evenly

Scores = npt.NDArray[np.float64]  # (n,)
MAP_QUANTILES = (0.9, 0.995)  # of EfficientAD's map normalisation
FAKES_PER_KIND = 10
PLACE_IMAGES = 100  # training images that show how much each place varies
COMPONENT_IMAGES, COMPONENT_CELLS = 60, 400  # how many are looked at to find components, and how many cells of each
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
    detector: Detector,
    train: Sequence[Tensor],
    validation: Sequence[Tensor],
    progress: Callable[[int, int], None],
    *,
    seed: int = 0,
) -> None:
    """Fill the detector's normalisation from good images, and choose which of its maps and parts count.

    Args:
        detector: with trained networks; its buffers are written.
        train: network images (1, 3, 256, 256) in 0..1 that the distances are fitted on.
        validation: network images that training has not seen, for everything that sets a scale.
        progress: called with images done and in total.
        seed: of the makeshift anomalies that the choice is made on.
    """
    if not detector.method.whitening and not detector.method.heads:
        train = ()  # the report's maps and their scale need validation images alone
    fakes = judging_fakes(detector, validation, seed) if detector.method.heads else []
    total = len(train) + len(validation) + len(fakes)
    if train:
        fit_components(detector, train, seed)
        fit_distances(detector, train, lambda done: progress(done, total))
    good = look(detector, validation, lambda done: progress(len(train) + done, total))
    fit_maps(detector, good)
    fake = look(detector, [item.image for item in fakes], lambda done: progress(total - len(fakes) + done, total))
    if fakes:
        choose_maps(detector, good.distances, fake.distances)
        choose_csda_map(detector, good, fake, [item.mask for item in fakes])
    parts = raw_parts(detector, good)
    fit_parts(detector, parts)
    if fakes:
        choose_parts(detector, parts, raw_parts(detector, fake))


def judging_fakes(detector: Detector, validation: Sequence[Tensor], seed: int) -> list[Fake]:
    """Makeshift anomalies to choose by; without those that look like what CSDA has learned from, if there is CSDA."""
    fakes = make_fakes(validation, seed, per_kind=FAKES_PER_KIND, region=detector.region)
    kin = KIN[detector.method.anomalies] if detector.csda else frozenset()
    return [fake for fake in fakes if fake.kind not in kin]


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What the detector says of some images, before its scales are set."""

    distances: Tensor  # (n, 3, 64, 64)
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


def fit_distances(detector: Detector, train: Sequence[Tensor], progress: Callable[[int], None]) -> None:
    """Fit all that measures how far an image is from the training images."""
    places = set(evenly(len(train), PLACE_IMAGES))
    embeddings, components, residuals, kept = [], [], ResidualMoments(detector.region), []
    for index, image in enumerate(train):
        evidence = detector.evidence(image)
        embeddings.append(evidence.embedding)
        components.append(evidence.components)
        residuals.add(evidence.residuals)
        if index in places:
            kept.append(evidence.residuals.half())
        progress(index + 1)
    embedded = torch.stack(embeddings)
    fit_distance(detector.joint, embedded)
    fit_distance(detector.puad, embedded[:, : embedded.shape[1] // 2])
    fit_distance(detector.component_distance, torch.stack(components))
    residuals.fit(detector)
    fit_places(detector, kept)


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

    An edit stands out from a good image as far as its mean is above that image's highest cells (`MAP_QUANTILES`).

    Args:
        detector: whose `map_weight` is written.
        good: of validation images.
        fake: of edited ones.
        masks: (256, 256) each, where they were edited.
    """
    if not detector.csda:
        return
    inspected = detector.region[0, 0]
    beaten = []
    for weight in (0.0, 1.0):
        detector.map_weight[-1] = weight
        ordinary = [
            anomaly_map[inspected.bool()].quantile(MAP_QUANTILES[1]) for anomaly_map in anomaly_maps(detector, good)
        ]
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


def choose_parts(detector: Detector, good: Tensor, fake: Tensor) -> None:
    """Keep the parts that together tell fakes from good images best; their weights become 0 or 1.

    A part is left out only if it does harm: the choice is the largest set that is not worse than the best one by more
    than a standard error. Fakes are no anomalies, so doing without a part has to be earned.

    Args:
        detector: whose `part_weight` names the parts that take part, and is written.
        good: (n, len(parts)) raw parts of validation images.
        fake: (m, len(parts)) raw parts of edited ones.
    """
    active = detector.part_weight.nonzero().flatten().tolist()
    scale = [(values - detector.part_mean) / detector.part_std for values in (good, fake)]
    weights = []
    for chosen in product((0.0, 1.0), repeat=len(active)):
        if any(chosen):
            weights.append(torch.zeros_like(detector.part_weight))
            weights[-1][active] = torch.tensor(chosen)
    beaten = []
    for weight in weights:
        detector.part_weight.copy_(weight)
        beaten.append(wins(detector.fuse(scale[0]), detector.fuse(scale[1])))
    detector.part_weight.copy_(weights[choose_largest(np.stack(beaten), [float(weight.sum()) for weight in weights])])


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
    over_fakes, over_good = deficit.mean(axis=2), deficit.mean(axis=1)
    variance = over_fakes.var(axis=1, ddof=1) / over_fakes.shape[1] + over_good.var(axis=1, ddof=1) / over_good.shape[1]
    fair = [index for index in range(len(sizes)) if deficit[index].mean() <= np.sqrt(variance[index]) + 1e-12]
    return max(fair, key=lambda index: (sizes[index], auroc[index]))


def fit_components(detector: Detector, train: Sequence[Tensor], seed: int) -> None:
    """Find components by k-means over what cells show and where they lie, and the colours to describe them by."""
    head, rng = detector.components, np.random.default_rng(seed)
    drawn = []
    for image in train[:: max(1, len(train) // COMPONENT_IMAGES)]:
        cells = detector.teacher_features(image).flatten(2)[0]
        inspected = detector.region.flatten().nonzero().flatten().numpy()
        chosen = rng.choice(inspected, size=min(len(inspected), COMPONENT_CELLS), replace=False)
        drawn.append(torch.cat([cells, head.places])[:, chosen].T)
    sample = torch.cat(drawn).double().numpy()
    clusters = MiniBatchKMeans(head.COUNT, n_init=3, batch_size=4096, random_state=seed).fit(sample)
    distance = clusters.transform(sample).min(axis=1)
    # a cell as far from its centre as usual is nearly all of one component
    sharpness = 10 / (np.square(distance).mean() + 1e-6)
    centres = torch.from_numpy(clusters.cluster_centers_)
    head.weight.copy_(2 * sharpness * centres)
    head.bias.copy_(-sharpness * centres.square().sum(dim=1, keepdim=True))
    shown = sample[:, :-2] - sample[:, :-2].mean(axis=0)
    _, vectors = np.linalg.eigh(shown.T @ shown)
    principal = vectors[:, ::-1][:, : head.COLOURS].T  # fewer than COLOURS if the teacher has fewer channels
    head.colours[: len(principal)] = torch.from_numpy(principal.copy())


class ResidualMoments:
    """Mean of the residuals at each place, and their covariance about it over all places, gathered image by image."""

    def __init__(self, region: Tensor) -> None:
        self.region = region.flatten().double()  # what is not inspected tells nothing of how the rest varies
        self.count = 0
        self.total = torch.zeros(())  # becomes (3, C, P)
        self.products = torch.zeros(())  # becomes (3, C, C), summed over places

    def add(self, residuals: Tensor) -> None:
        """One image's residuals, (3, C, 64, 64)."""
        values = residuals.flatten(2).double()
        self.count += 1
        self.total = self.total + values
        inspected = values * self.region
        self.products = self.products + torch.bmm(inspected, inspected.transpose(1, 2))

    def fit(self, detector: Detector) -> None:
        """Write `residual_mean` and `residual_whitening`; the covariance is shrunk by 0.1 % towards a sphere."""
        mean = self.total / self.count
        places, inspected = self.region.sum(), mean * self.region
        covariance = self.products / (self.count * places) - torch.bmm(inspected, inspected.transpose(1, 2)) / places
        power = covariance.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1)
        eigenvalues, vectors = torch.linalg.eigh(covariance)
        eigenvalues = (eigenvalues.unsqueeze(1) + 1e-3 * power).clamp(min=1e-3 * power + 1e-12).squeeze(1)
        detector.residual_mean.copy_(mean)
        detector.residual_whitening.copy_((vectors / eigenvalues.sqrt().unsqueeze(1)).transpose(1, 2))


def fit_places(detector: Detector, residuals: Sequence[Tensor]) -> None:
    """Mean and deviation of the maps' logarithm at each place, from some training images; smoothed over 3 x 3 cells."""
    if not detector.method.whitening:
        return
    distances = torch.stack([detector.distances(item.float()) for item in residuals])
    deviation, mean = torch.std_mean((distances + 1e-6).log(), dim=0)
    detector.place_mean.copy_(_smooth(mean))
    detector.place_std.copy_(_smooth(deviation).clamp(min=1e-3))


def _smooth(maps: Tensor) -> Tensor:
    """Mean over 3 x 3 cells of the image, (K, 64, 64)."""
    return F.avg_pool2d(maps[None], 3, stride=1, padding=1, count_include_pad=False)[0]


def fit_distance(head: Distance, embeddings: Tensor) -> None:
    """Mahalanobis distance among embeddings (n, D) of the training images, with a Ledoit-Wolf covariance."""
    values = embeddings.double().numpy()
    head.centre.copy_(torch.from_numpy(values.mean(axis=0)))
    head.whitening.copy_(torch.from_numpy(whitening_of(values)))


def whitening_of(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """W (D, D) such that |W (x - mean)| is the Mahalanobis distance among these values (n, D)."""
    scale = values.std(axis=0) + 1e-6
    eigenvalues, vectors = np.linalg.eigh(LedoitWolf().fit(values / scale).covariance_)
    whitening: npt.NDArray[np.float64] = (vectors / np.sqrt(eigenvalues)).T / scale
    return whitening


def fit_maps(detector: Detector, good: Looks) -> None:
    """EfficientAD's quantile normalisation of each map, over inspected cells of validation images."""
    shown = torch.stack([detector.shown_maps(*one) for one in zip(good.evidence, good.distances, strict=True)])
    for maps, low, high in (
        (shown, detector.shown_low, detector.shown_high),
        (detector.at_place(good.distances), detector.map_low, detector.map_high),
    ):
        pixels = maps[:, :, detector.region[0, 0].bool()].transpose(0, 1).flatten(1).double().numpy()
        found = np.quantile(pixels, MAP_QUANTILES, axis=1)
        low.copy_(torch.from_numpy(found[0]).view(-1, 1, 1))
        high.copy_(torch.from_numpy(np.maximum(found[1], found[0] + 1e-6)).view(-1, 1, 1))


def fit_parts(detector: Detector, raw: Tensor) -> None:
    """Trimmed z-norm of each part of the image score on the validation images, raw (n, len(parts))."""
    for index, values in enumerate(raw.double().numpy().T):
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
