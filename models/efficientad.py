"""The networks of EfficientAD-S (Batzner et al. 2023): patch description network and auto-encoder. Knows no loss."""

from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.grid import GRID

Size = Literal["small", "medium"]
Network = TypeVar("Network", bound=nn.Module)


def pdn(size: Size, channels: int) -> nn.Sequential:
    """A patch description network: features with a receptive field of 33 pixels and stride 4, unpadded.

    (B, 3, H, W) -> (B, channels, (H - 33) // 4 + 1, (W - 33) // 4 + 1). Being unpadded, its features of a crop whose
    corner lies on the stride equal those of the full image at the same place: it can be trained on crops exactly.
    """
    if size == "small":
        tail: list[nn.Module] = [nn.Conv2d(256, 256, 3), nn.ReLU(inplace=True), nn.Conv2d(256, channels, 4)]
        return channels_last(nn.Sequential(*_stem(128, 256), *tail))
    tail = [nn.Conv2d(512, 512, 1), nn.ReLU(inplace=True), nn.Conv2d(512, 512, 3), nn.ReLU(inplace=True)]
    tail += [nn.Conv2d(512, channels, 4), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)]
    return channels_last(nn.Sequential(*_stem(256, 512), *tail))


def channels_last(network: Network) -> Network:
    """The network with its weights as convolutions on a CPU like them best: a PDN takes two thirds of the time."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _stem(narrow: int, wide: int) -> list[nn.Module]:
    first = [nn.Conv2d(3, narrow, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
    return [*first, nn.Conv2d(narrow, wide, 4), nn.ReLU(inplace=True), nn.AvgPool2d(2)]


class AutoEncoder(nn.Module):
    """The bottleneck that sees the whole image: 256 x 256 -> 64 numbers -> teacher features at every grid cell.

    With `instance_norm` it is the auto-encoder of DFSC: instance norm before every activation, ReLU at the start of the
    decoder. The 1 x 1 bottleneck and the output have no norm. Dropout in the decoder is EfficientAD's; DFSC's report
    does not speak of it.
    """

    def __init__(self, channels: int, *, instance_norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [3, 32, 32, 64, 64, 64]
        encoder: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            encoder += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), *_activation(outputs, norm=instance_norm)]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(64, 64, 8))
        self.start = nn.ReLU() if instance_norm else nn.Identity()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 64, 4, padding=2), *_activation(64, norm=instance_norm), nn.Dropout(dropout))
            for _ in range(6)
        )
        self.head = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), *_activation(64, norm=instance_norm), nn.Conv2d(64, channels, 3, padding=1)
        )
        channels_last(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, 256, 256) -> (B, channels, 64, 64)."""
        features = self.start(self.encoder(image))
        for side, step in zip((3, 8, 15, 32, 63, 127), self.steps, strict=True):
            features = step(_resize(features, side))
        return self.head(_resize(features, GRID))  # type: ignore[no-any-return]


def _activation(channels: int, *, norm: bool) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU()] if norm else [nn.ReLU()]


def _resize(features: Tensor, side: int) -> Tensor:
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
