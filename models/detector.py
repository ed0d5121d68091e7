"""Everything fused into one module: uint8 image in, anomaly map and image score out. Knows no file and no threshold.

This module is what is exported; training and calibration fill its networks and buffers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data import DataError, Image, to_uint8
from models.efficientad import AutoEncoder, PatchDescriptionNetwork, pad_for_student
from models.resize import network_image
from models.teacher import GRID, NETWORK_SIDE, Lite0Teacher

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the networks say of one image before it is calibrated."""

    residuals: Tensor  # (2, C, 64, 64): T - S^T and A - S^A
    embedding: Tensor  # (D,): the student's and the teacher's features, averaged over the inspected region


class Detector(nn.Module):
    """DFSC's maps and a global feature distance (PUAD), calibrated and fused.

    The image score is the mean of `PARTS`; each is also given alone, on the same scale (deviations of good images): the
    combined map's maximum, and the Mahalanobis distance of the embedding. PUAD takes the student's mean features alone;
    with the teacher's beside them the distance serves structural anomalies too.
    """

    PARTS = ("maps", "global")
    EMBEDDING = 2 * Lite0Teacher.CHANNELS

    image_mean: Tensor
    image_std: Tensor
    teacher_mean: Tensor  # (1, C, 1, 1), of the training images' features
    teacher_std: Tensor
    region: Tensor  # (1, 1, 64, 64), 1 where the part is inspected, else 0
    residual_mean: Tensor  # (2, C, 4096), of good images, at each place
    residual_whitening: Tensor  # (2, C, C), root of their inverse covariance, over all places
    map_low: Tensor  # (2, 1, 1), q0.9 of the good pixels of each map
    map_high: Tensor  # q0.995
    centre: Tensor  # (D,), mean embedding of good images
    whitening: Tensor  # (D, D), root of its inverse covariance
    part_mean: Tensor  # (len(PARTS),), of good images
    part_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels = Lite0Teacher.CHANNELS
        self.teacher = Lite0Teacher()
        self.student = PatchDescriptionNetwork(2 * channels)
        self.autoencoder = AutoEncoder(channels)
        self.register_buffer("image_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.register_buffer("teacher_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("teacher_std", torch.ones(1, channels, 1, 1))
        self.register_buffer("region", torch.ones(1, 1, GRID, GRID))
        self.register_buffer("residual_mean", torch.zeros(2, channels, GRID * GRID))
        self.register_buffer("residual_whitening", torch.eye(channels).repeat(2, 1, 1))
        self.register_buffer("map_low", torch.zeros(2, 1, 1))
        self.register_buffer("map_high", torch.ones(2, 1, 1))
        self.register_buffer("centre", torch.zeros(self.EMBEDDING))
        self.register_buffer("whitening", torch.eye(self.EMBEDDING))
        self.register_buffer("part_mean", torch.zeros(len(self.PARTS)))
        self.register_buffer("part_std", torch.ones(len(self.PARTS)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inspect one image.

        Args:
            image: (H, W, C) uint8, C = 1 grey or 3 RGB.

        Returns:
            anomaly map (256, 256) in 0..1, image score (), parts (len(PARTS),).
        """
        grid_map, score, parts = self.judge(network_image(image))
        anomaly_map = F.interpolate(
            grid_map[None], size=(NETWORK_SIDE, NETWORK_SIDE), mode="bilinear", align_corners=False
        )
        return anomaly_map[0, 0], score, parts

    def judge(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, of a network image (1, 3, 256, 256) in 0..1, with the map on its grid (1, 64, 64)."""
        evidence = self.evidence(image)
        parts = (self.raw_parts(evidence) - self.part_mean) / self.part_std
        return self.combined_map(evidence), parts.mean(), parts

    def inspect_only(self, region: Image) -> None:
        """Look only where the region (H, W, C) is over half of its range; it covers the image, whatever its size."""
        share = network_image(torch.from_numpy(to_uint8(region, 8 * region.itemsize)))[:, :1]
        inspected = F.avg_pool2d(share, NETWORK_SIDE // GRID) > 0.5
        if not inspected.any():
            raise DataError("the region of interest is empty: paint white what is to be inspected, on black")
        self.region.copy_(inspected)

    def evidence(self, image: Tensor) -> Evidence:
        """Maps and embedding of a network image (1, 3, 256, 256) in 0..1, not calibrated."""
        teacher = self.teacher_features(image)
        normalised = self.normalise(image)
        student_teacher, student_autoencoder = self.student(pad_for_student(normalised)).chunk(2, dim=1)
        autoencoder = self.autoencoder(normalised)
        residuals = torch.cat([teacher - student_teacher, autoencoder - student_autoencoder])
        seen = torch.cat([student_teacher, teacher], dim=1)
        embedding = (seen * self.region).sum(dim=(0, 2, 3)) / self.region.sum()
        return Evidence(residuals, embedding)

    def teacher_features(self, image: Tensor) -> Tensor:
        """(B, 3, 256, 256) in 0..1 -> (B, C, 64, 64), each channel standardised on the training images."""
        features: Tensor = self.teacher(image)
        return (features - self.teacher_mean) / self.teacher_std

    def normalise(self, image: Tensor) -> Tensor:
        """The image as student and auto-encoder see it."""
        return (image - self.image_mean) / self.image_std

    def maps(self, evidence: Evidence) -> Tensor:
        """M_ST and M_SA, (2, 64, 64), not yet on one scale.

        Not the plain mean of squared differences (DFSC Eq 1): the student cannot follow a teacher that sees further
        than its 33 pixels in all channels, so a difference is measured by how it varies among good images, at its place
        (squared Mahalanobis distance over the channels), and smoothed over 3 x 3 cells.
        """
        centred = evidence.residuals.flatten(2) - self.residual_mean
        distance = torch.bmm(self.residual_whitening, centred).square().mean(dim=1)
        seen = torch.cat([distance.view(2, GRID, GRID) * self.region[0], self.region[0]])
        smooth = F.avg_pool2d(seen, 3, stride=1, padding=1)
        return smooth[:2] / smooth[2:].clamp(min=1 / 9)  # over the cells of the image that are inspected

    def combined_map(self, evidence: Evidence) -> Tensor:
        """(1, 64, 64) in 0..1: the maps, normalised by quantiles, sigmoid each (DFSC 3.1), then averaged."""
        normalised = 0.1 * (self.maps(evidence) - self.map_low) / (self.map_high - self.map_low)
        return torch.sigmoid(normalised).mean(dim=0, keepdim=True) * self.region[0]

    def raw_parts(self, evidence: Evidence) -> Tensor:
        """The image score's parts before they are brought to one scale, (len(PARTS),)."""
        peak = self.combined_map(evidence).max()
        distance = (self.whitening @ (evidence.embedding - self.centre)).square().sum().sqrt()
        return torch.stack([peak, distance])
