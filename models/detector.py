"""Everything fused into one module: uint8 image in, anomaly map and image score out. Knows no file and no threshold.

This module is what is exported; training and calibration fill its networks and buffers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.csda import Csda, image_score
from models.data import DataError, Image, to_uint8
from models.efficientad import AutoEncoder, pdn
from models.grid import GRID, IMAGENET_MEAN, IMAGENET_STD, NETWORK_SIDE, pad_for_pdn
from models.heads import Components, Distance
from models.memory import PatchMemory, patches_of
from models.method import Method
from models.resize import network_image
from models.teacher import open_teacher

DEFAULT = Method()


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the networks say of one image before it is calibrated."""

    residuals: Tensor  # (maps, C, 64, 64): T - S^T and A - S^A where there is a student, and T itself
    embedding: Tensor  # (2 C,) or (C,): the student's, if any, and the teacher's features, means over the region
    components: Tensor  # (CLUSTERINGS, D): how much of each component there is, and what it looks like
    patches: Tensor | None = None  # (1024, C): what the memory is asked for; where there is one
    logits: Tensor | None = None  # (64, 64): CSDA's, of what differs from the nearest good image; where there is one


class Detector(nn.Module):
    """DFSC's maps and the logical heads, calibrated and fused.

    `PARTS` are the scores that an image gets, each alone on one scale (deviations of good images): the maximum of
    DFSC's maps; that of the teacher's own map, of how unusual a patch is at its place (PaDiM); how far the furthest
    patch is from all good ones (PatchCore); the distances of the mean features, the teacher's alone or the student's
    with them (PUAD); the distance of the components; the highest logits of CSDA. Those that take time of their own,
    `OPTIONAL` and `STUDENT`, are not computed where the method does without them. The image score is the root of the
    squares of those above normal, weighted with 0 or 1; `ALIKE`, which read the same features, count once.
    """

    MAPS = ("student", "autoencoder", "patch")  # the first two with a student; and CSDA's, in the anomaly map only
    PARTS = ("maps", "patch", "memory", "global", "puad", "components", "csda")
    OPTIONAL = ("memory", "csda")
    STUDENT = ("maps", "puad")  # what student and auto-encoder are for
    ALIKE = ("maps", "patch")  # before all other parts; a student of few steps says what the teacher's own map says
    CLUSTERINGS = 4  # sets of components, as where k-means ends depends on where it starts: the mean distance counts

    components: Sequence[Components]
    component_distances: Sequence[Distance]
    image_mean: Tensor
    image_std: Tensor
    teacher_mean: Tensor  # (1, C, 1, 1), of the training images' features
    teacher_std: Tensor
    region: Tensor  # (1, 1, 64, 64), 1 where the part is inspected, else 0
    residual_mean: Tensor  # (maps, C, 4096), of good images, at each place
    residual_whitening: Tensor  # (maps, C, C), root of their inverse covariance, over all places
    place_mean: Tensor  # (maps, 64, 64), of the logarithm of good images' maps, at each place
    place_std: Tensor
    map_low: Tensor  # (maps, 1, 1), q0.9 of the good pixels of each map on the scale of its place
    map_high: Tensor  # q0.995
    shown_low: Tensor  # (shown, 1, 1), the same of the distances themselves, and of CSDA's logits
    shown_high: Tensor
    map_weight: Tensor  # (shown, 1, 1), 0 leaves a map out of the anomaly map
    part_mean: Tensor  # (len(parts),), of good images
    part_std: Tensor
    part_weight: Tensor  # (len(parts),), 0 or 1

    def __init__(self, method: Method = DEFAULT) -> None:
        super().__init__()
        self.method = method
        self.teacher = open_teacher(method.teacher)
        channels = self.teacher.channels
        has_student = method.student != "never"
        self.student = pdn("small", 2 * channels) if has_student else None
        self.autoencoder = (
            AutoEncoder(channels, instance_norm=method.instance_norm, dropout=method.dropout) if has_student else None
        )
        self.mean_distance = Distance(channels)
        self.puad = Distance(2 * channels) if has_student else None
        clusterings = range(self.CLUSTERINGS)
        self.components = nn.ModuleList(Components(channels) for _ in clusterings)  # type: ignore[assignment]
        self.component_distances = nn.ModuleList(  # type: ignore[assignment]
            Distance(Components.DIMENSION) for _ in clusterings
        )
        self.memory = PatchMemory(channels) if "memory" in method.heads else None
        self.csda = Csda(self.teacher.scale_channels) if "csda" in method.heads else None
        absent = [part for part in self.OPTIONAL if part not in method.heads]
        if not has_student:
            absent.extend(self.STUDENT)
        self.parts = tuple(part for part in self.PARTS if part not in absent)
        self.maps = self.MAPS if has_student else self.MAPS[-1:]
        self.shown = (*self.maps, "csda") if self.csda else self.maps
        maps, parts, shown = len(self.maps), len(self.parts), len(self.shown)
        active = [float(part in ("maps", *method.heads)) for part in self.parts]
        share = {"patch": method.whitening and "patch" in method.heads}
        for name, value in {
            "image_mean": IMAGENET_MEAN.clone(),
            "image_std": IMAGENET_STD.clone(),
            "teacher_mean": torch.zeros(1, channels, 1, 1),
            "teacher_std": torch.ones(1, channels, 1, 1),
            "region": torch.ones(1, 1, GRID, GRID),
            "residual_mean": torch.zeros(maps, channels, GRID * GRID),
            "residual_whitening": torch.eye(channels).repeat(maps, 1, 1),
            "place_mean": torch.zeros(maps, GRID, GRID),
            "place_std": torch.ones(maps, GRID, GRID),
            "map_low": torch.zeros(maps, 1, 1),
            "map_high": torch.ones(maps, 1, 1),
            "shown_low": torch.zeros(shown, 1, 1),
            "shown_high": torch.ones(shown, 1, 1),
            "map_weight": torch.tensor([float(share.get(name, True)) for name in self.shown]).view(-1, 1, 1),
            "part_mean": torch.zeros(parts),
            "part_std": torch.ones(parts),
            "part_weight": torch.tensor(active),
        }.items():
            self.register_buffer(name, value)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inspect one image.

        Args:
            image: (H, W, C) uint8, C = 1 grey or 3 RGB.

        Returns:
            anomaly map (256, 256), in 0..1 with `sigmoid`, image score (), parts (len(parts),).
        """
        grid_map, score, parts = self.judge(network_image(image))
        anomaly_map = F.interpolate(
            grid_map[None], size=(NETWORK_SIDE, NETWORK_SIDE), mode="bilinear", align_corners=False
        )
        return anomaly_map[0, 0], score, parts

    def judge(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, of a network image (1, 3, 256, 256) in 0..1, with the map on its grid (1, 64, 64)."""
        evidence = self.evidence(image)
        distances = self.distances(evidence.residuals)
        parts = (self.raw_parts(evidence, distances) - self.part_mean) / self.part_std
        return self.anomaly_map(self.shown_maps(evidence, distances)), self.fuse(parts), parts

    def inspect_only(self, region: Image) -> None:
        """Look only where the region (H, W, C) is over half of its range; it covers the image, whatever its size."""
        share = network_image(torch.from_numpy(to_uint8(region, 8 * region.itemsize)))[:, :1]
        inspected = F.avg_pool2d(share, NETWORK_SIDE // GRID) > 0.5
        if not inspected.any():
            raise DataError("the region of interest is empty: paint white what is to be inspected, on black")
        self.region.copy_(inspected)

    def idle_parts(self) -> set[str]:
        """What calibration has found not to count for this product: it can be left out."""
        counted = {*self.counted_parts()}
        idle = {*self.OPTIONAL} & {*self.parts} - counted
        if self._may_lose_student() and counted.isdisjoint(self.STUDENT):
            idle.update(self.STUDENT)
        return idle

    def without(self, parts: Collection[str]) -> "Detector":
        """The same detector without some optional parts, which then cost no time; `maps` stands for the student."""
        student = "never" if "maps" in parts else self.method.student
        heads = tuple(head for head in self.method.heads if head not in parts)
        plain = Detector(replace(self.method, heads=heads, student=student))
        own = self.state_dict()
        for name, value in plain.state_dict().items():
            kept = self._kept(name, plain)
            value.copy_(own[name] if kept is None else own[name][kept])
        return plain.train(self.training)

    def _may_lose_student(self) -> bool:
        another_map = self.method.whitening and "patch" in self.method.heads
        return self.student is not None and self.method.student == "chosen" and another_map

    def _kept(self, buffer: str, plain: "Detector") -> list[int] | None:
        """Which entries of a buffer stay where this detector becomes the plain one; None: all."""
        if buffer.startswith("part_"):
            return [self.parts.index(part) for part in plain.parts]
        if buffer.startswith(("shown_", "map_weight")):
            return [self.shown.index(name) for name in plain.shown]
        if buffer.startswith(("residual_", "place_", "map_")):
            return [self.maps.index(name) for name in plain.maps]
        return None

    def evidence(self, image: Tensor) -> Evidence:
        """What the networks say of a network image (1, 3, 256, 256) in 0..1, not calibrated."""
        scales = self.teacher.scales(image)
        teacher = self.standardise(self.teacher.join(scales))
        residuals, seen = teacher, teacher
        if self.student is not None and self.autoencoder is not None:
            normalised = self.normalise(image)
            student_teacher, student_autoencoder = self.student(pad_for_pdn(normalised)).chunk(2, dim=1)
            autoencoder = self.autoencoder(normalised)
            residuals = torch.cat([teacher - student_teacher, autoencoder - student_autoencoder, teacher])
            seen = torch.cat([student_teacher, teacher], dim=1)
        embedding = (seen * self.region).sum(dim=(0, 2, 3)) / self.region.sum()
        logits = self.csda(scales, self.region)[0] if self.csda else None
        patches = patches_of(teacher, self.region) if self.memory else None
        components = torch.stack([clustering(teacher, self.region) for clustering in self.components])
        return Evidence(residuals, embedding, components, patches, logits)

    def teacher_features(self, image: Tensor) -> Tensor:
        """(B, 3, 256, 256) in 0..1 -> (B, C, 64, 64), standardised."""
        return self.standardise(self.teacher(image))

    def standardise(self, features: Tensor) -> Tensor:
        """The teacher's features (B, C, 64, 64), each channel in deviations of the training images' from their mean."""
        return (features - self.teacher_mean) / self.teacher_std

    def normalise(self, image: Tensor) -> Tensor:
        """The image as student and auto-encoder see it."""
        return (image - self.image_mean) / self.image_std

    def distances(self, residuals: Tensor) -> Tensor:
        """Residuals (maps, C, 64, 64) -> M_ST, M_SA and the teacher's own map, (maps, 64, 64), not yet on one scale.

        By Eq 1 of the report they are plain means of squared differences. With `whitening` a difference is measured by
        how it varies among good images at its place (squared Mahalanobis distance over the channels), because the
        student cannot follow a teacher that sees further than its 33 pixels in all channels.
        """
        if not self.method.whitening:
            return residuals.square().mean(dim=1) * self.region[0]
        centred = residuals.flatten(2) - self.residual_mean
        distance = torch.bmm(self.residual_whitening, centred).square().mean(dim=1)
        seen = torch.cat([distance.view(-1, GRID, GRID) * self.region[0], self.region[0]])
        smooth = F.avg_pool2d(seen, 3, stride=1, padding=1)
        return smooth[:-1] / smooth[-1:].clamp(min=1 / 9)  # over the cells of the image that are inspected

    def at_place(self, distances: Tensor) -> Tensor:
        """Distances (..., maps, 64, 64) on the scale of their place.

        Some places of a good part vary more than others (its edges, a loose cable). With `whitening` the logarithm of a
        distance is taken in deviations of good images' at its place, so that the quiet places count as much. That is
        for the image score; the anomaly map, which shows how far a defect reaches, keeps the distances.
        """
        if not self.method.whitening:
            return distances
        return ((distances + 1e-6).log() - self.place_mean) / self.place_std

    def scale(self, maps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Maps (..., maps, 64, 64) on one scale: EfficientAD's quantile normalisation, then sigmoid (DFSC 3.1)."""
        normalised = 0.1 * (maps - low) / (high - low)
        return torch.sigmoid(normalised) if self.method.sigmoid else normalised

    def shown_maps(self, evidence: Evidence, distances: Tensor) -> Tensor:
        """What the anomaly map may be made of, (shown, 64, 64): the distances, and CSDA's logits if there are any."""
        return distances if evidence.logits is None else torch.cat([distances, evidence.logits[None]])

    def anomaly_map(self, maps: Tensor) -> Tensor:
        """(shown, 64, 64) -> the mean of the scaled maps (1, 64, 64); those of features, together, count as CSDA's."""
        of_features = self.map_weight[: len(self.maps)]
        share = torch.cat([of_features / of_features.sum().clamp(min=1), self.map_weight[len(self.maps) :]])
        shown = self.scale(maps, self.shown_low, self.shown_high) * share
        return shown.sum(dim=0, keepdim=True) / share.sum() * self.region[0]

    def raw_parts(self, evidence: Evidence, distances: Tensor) -> Tensor:
        """The image score's parts before they are brought to one scale, (len(parts),)."""
        found = self.raw_map_parts(distances)
        if self.memory is not None and evidence.patches is not None:
            found["memory"] = self.memory(evidence.patches, self.region)
        found["global"] = self.mean_distance(evidence.embedding[-self.teacher.channels :])
        if self.puad is not None:
            found["puad"] = self.puad(evidence.embedding)
        found["components"] = self.component_score(evidence.components)
        if evidence.logits is not None:
            found["csda"] = image_score(evidence.logits, self.region)
        return torch.stack([found[part] for part in self.parts])

    def component_score(self, components: Tensor) -> Tensor:
        """(CLUSTERINGS, D) -> (), the mean distance."""
        each = [distance(one) for distance, one in zip(self.component_distances, components, strict=True)]
        return torch.stack(each).mean(dim=0)

    def raw_map_parts(self, distances: Tensor) -> dict[str, Tensor]:
        """Of `raw_parts`, () each: the maximum of DFSC's maps, if there is a student, and that of the teacher's."""
        scaled = self.scale(self.at_place(distances), self.map_low, self.map_high)
        maps = {"patch": scaled[-1]}
        if self.student is not None:
            maps["maps"] = (scaled[:2] * self.map_weight[:2]).sum(dim=0) / self.map_weight[:2].sum()
        low = (self.region[0, 0] - 1) * 1e6  # where nothing is inspected nothing is found
        return {part: (one + low).amax(dim=(0, 1)) for part, one in maps.items()}

    def counted_parts(self) -> tuple[str, ...]:
        """The parts that calibration has found to count for this product."""
        return tuple(part for part, weight in zip(self.parts, self.part_weight.tolist(), strict=True) if weight)

    def fuse(self, parts: Tensor) -> Tensor:
        """Parts (..., len(parts)) in deviations of good images -> image score (...).

        One part that is sure is enough, and doubts of several add up: the root of the sum of squares, each part
        smoothly cut off below what is normal. Of those `ALIKE` the surer one counts: their doubts are the same.
        """
        squares = self.part_weight * F.softplus(parts).square()
        alike = sum(part in self.ALIKE for part in self.parts)
        return (squares[..., :alike].amax(dim=-1) + squares[..., alike:].sum(dim=-1)).sqrt()
