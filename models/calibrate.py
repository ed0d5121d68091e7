"""Brings a trained detector's maps and scores to one scale; from good images only."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm
from sklearn.cluster import MiniBatchKMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from models.choose import Looks, choose_maps, choose_parts, look, raw_parts
from models.detector import Detector
from models.fakes import Fake
from models.grid import smooth
from models.heads import Components, Distance
from models.normals import evenly
from models.progress import Progress
from models.threshold import Scores

MAP_QUANTILES = (0.9, 0.995)  # of EfficientAD's map normalisation
PLACE_IMAGES = 100  # training images that show how much each place varies
COMPONENT_IMAGES, COMPONENT_CELLS = 60, 400  # how many are looked at to find components, and how many cells of each
KIND_AXES = 15  # principal components that kinds of good images are told apart by
LEAST_OF_A_KIND = 20
TRIM = (0.2, 0.8)  # quantiles between which a part's mean and deviation are taken


@torch.inference_mode()
def calibrate(
    detector: Detector,
    train: Sequence[Tensor],
    validation: Sequence[Tensor],
    progress: Progress,
    *,
    fakes: Sequence[Fake] = (),
    seed: int = 0,
) -> None:
    """Fill the detector's normalisation from good images, and choose which of its maps and parts count.

    Args:
        detector: with trained networks; its buffers are written.
        train: network images (1, 3, 256, 256) in 0..1 that the distances are fitted on.
        validation: network images that training has not seen, for everything that sets a scale.
        progress: told of images looked at, and of patches chosen.
        fakes: anomalies made of validation images, to choose by; none: everything counts that the method has.
        seed: of what is drawn to find components and kinds, and patches to remember.
    """
    if not detector.method.whitening and not detector.method.heads:
        train = ()  # the report's maps and their scale need validation images alone
    total = len(train) + len(validation) + len(fakes)

    def looked(done: int) -> None:
        progress("calibrating", done, total)

    if train:
        fit_components(detector, train, seed)
        patches = fit_distances(detector, train, seed, looked)
        if detector.memory:
            detector.memory.remember(patches, detector.region, seed, progress)
    good = look(detector, validation, lambda done: looked(len(train) + done))
    fit_maps(detector, good)
    fake = look(detector, [item.image for item in fakes], lambda done: looked(total - len(fakes) + done))
    kinds = [item.kind for item in fakes]
    if fakes and detector.student is not None:
        choose_maps(detector, good.distances, fake.distances, kinds)
    parts = raw_parts(detector, good)
    fit_parts(detector, parts)
    if fakes:
        choose_parts(detector, parts, raw_parts(detector, fake), kinds)


def fit_distances(
    detector: Detector, train: Sequence[Tensor], seed: int, progress: Callable[[int], None]
) -> list[Tensor]:
    """Fit all that measures how far an image is from the training images.

    Returns:
        the patches of each, (1024, C) half precision, if the detector has a memory of them.
    """
    residuals = GoodResiduals(detector.region, len(train))
    embeddings, components, patches = [], [], []
    for done, image in enumerate(train, start=1):
        evidence = detector.evidence(image)
        embeddings.append(evidence.embedding)
        components.append(evidence.components)
        residuals.add(evidence.residuals)
        if evidence.patches is not None:
            patches.append(evidence.patches.half())
        progress(done)
    embedded = torch.stack(embeddings)
    fit_distance(detector.mean_distance, embedded[:, -detector.teacher.channels :], seed)
    if detector.puad is not None:
        fit_distance(detector.puad, embedded, seed)
    for distance, described in zip(detector.component_distances, torch.stack(components, dim=1), strict=True):
        fit_distance(distance, described, seed)
    residuals.fit(detector)
    return patches


def fit_components(detector: Detector, train: Sequence[Tensor], seed: int) -> None:
    """Find components by k-means over what cells show and where they lie, and the colours to describe them by.

    As many times as there are heads for it, over the same cells.
    """
    rng, drawn = np.random.default_rng(seed), []
    for image in train[:: max(1, len(train) // COMPONENT_IMAGES)]:
        cells = detector.teacher_features(image).flatten(2)[0]
        inspected = detector.region.flatten().nonzero().flatten().numpy()
        chosen = rng.choice(inspected, size=COMPONENT_CELLS, replace=len(inspected) < COMPONENT_CELLS)
        drawn.append(torch.cat([cells, detector.components[0].places])[:, chosen].T)
    sample = torch.cat(drawn).double().numpy()
    for number, head in enumerate(detector.components):
        fill_components(head, sample, seed + number)


def fill_components(head: Components, sample: npt.NDArray[np.float64], seed: int) -> None:
    """Fill the head with what k-means finds in cells (n, C + 2): what they show, and where they lie."""
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


class GoodResiduals:
    """Mean of the residuals at each place, and their covariance about it over all places, gathered image by image.

    Some images' residuals are kept, for how the maps vary once mean and covariance are known.
    """

    def __init__(self, region: Tensor, images: int) -> None:
        self.region = region.flatten().double()  # what is not inspected tells nothing of how the rest varies
        self.keeps = set(evenly(images, PLACE_IMAGES))
        self.kept: list[Tensor] = []
        self.count = 0
        self.total = torch.zeros(())  # becomes (maps, C, P)
        self.products = torch.zeros(())  # becomes (maps, C, C), summed over places

    def add(self, residuals: Tensor) -> None:
        """One image's residuals, (maps, C, 64, 64)."""
        if self.count in self.keeps:
            self.kept.append(residuals.half())
        values = residuals.flatten(2).double()
        self.count += 1
        self.total = self.total + values
        inspected = values * self.region
        self.products = self.products + torch.bmm(inspected, inspected.transpose(1, 2))

    def fit(self, detector: Detector) -> None:
        """Write `residual_mean`, `residual_whitening` (shrunk by 0.1 % towards a sphere) and the moments of places."""
        mean = self.total / self.count
        cells, inspected = self.region.sum(), mean * self.region
        covariance = self.products / (self.count * cells) - torch.bmm(inspected, inspected.transpose(1, 2)) / cells
        power = covariance.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1)
        eigenvalues, vectors = torch.linalg.eigh(covariance)
        eigenvalues = (eigenvalues.unsqueeze(1) + 1e-3 * power).clamp(min=1e-3 * power + 1e-12).squeeze(1)
        detector.residual_mean.copy_(mean)
        detector.residual_whitening.copy_((vectors / eigenvalues.sqrt().unsqueeze(1)).transpose(1, 2))
        fit_places(detector, self.kept)


def fit_places(detector: Detector, residuals: Sequence[Tensor]) -> None:
    """Mean and deviation of the maps' logarithm at each place, from some training images; smoothed over 3 x 3 cells."""
    if not detector.method.whitening:
        return
    distances = torch.stack([detector.distances(item.float()) for item in residuals])
    deviation, mean = torch.std_mean((distances + 1e-6).log(), dim=0)
    detector.place_mean.copy_(smooth(mean))
    detector.place_std.copy_(smooth(deviation).clamp(min=1e-3))


def fit_distance(head: Distance, embeddings: Tensor, seed: int) -> None:
    """Mahalanobis distance to the nearest kind of training images, from their embeddings (n, D), by Ledoit-Wolf."""
    values = embeddings.double().numpy()
    kind = kinds_of(values, seed)
    means = np.stack([values[kind == index].mean(axis=0) for index in range(kind.max() + 1)])
    head.means.copy_(torch.from_numpy(means[np.arange(head.KINDS) % len(means)]))
    head.whitening.copy_(torch.from_numpy(whitening_of(values - means[kind])))


def kinds_of(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """Which kind of good image each of the values (n, D) belongs to, from 0 without a gap.

    As many kinds as a mixture of normal distributions with one covariance is best described by (BIC), of the principal
    components; a kind that fewer than `LEAST_OF_A_KIND` images would be left for on average is not looked for.
    """
    most = min(Distance.KINDS, len(values) // LEAST_OF_A_KIND)
    if most < 2:
        return np.zeros(len(values), np.int64)
    axes = min(KIND_AXES, *values.shape)
    shown = PCA(axes, random_state=seed).fit_transform(StandardScaler().fit_transform(values))
    mixtures = [
        GaussianMixture(kinds, covariance_type="tied", n_init=3, random_state=seed).fit(shown)
        for kinds in range(1, most + 1)
    ]
    best = min(mixtures, key=lambda mixture: float(mixture.bic(shown)))
    return np.asarray(np.unique(best.predict(shown), return_inverse=True)[1], np.int64)


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
