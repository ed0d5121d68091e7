"""WideResNet-101-2, the backbone of EfficientAD's own teacher, for those who have its weights as a file.

Written out, because torchvision's builds fit one build of torch each and its weights need no more than this.
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from models.data import DataError
from models.grid import GRID, IMAGENET_MEAN, IMAGENET_STD

BLOCKS = (3, 4, 23)  # of the layers 1 to 3


class Bottleneck(nn.Module):
    """A residual block (He et al. 2016), twice as wide inside (Zagoruyko & Komodakis 2016)."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        width, outputs = 2 * planes, 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Sequential() if same else shortcut

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, 4 planes, H / stride, W / stride)."""
        inner = F.relu(self.bn1(self.conv1(features)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(features))


class WideResNet101(nn.Module):
    """Its layers 2 and 3 at stride 8, 1536 channels pooled to 384 (EfficientAD, appendix; PatchCore's aggregation).

    torchvision and timm name the weights alike; those of the last layer are not used.
    """

    channels = 384
    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        """Read the weights, a state dict saved by torch or a safetensors file.

        Raises:
            DataError: the file is neither, or of another network.
        """
        super().__init__()
        state = _read(weights)
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, blocks=BLOCKS[0], stride=1)
        self.layer2 = _layer(256, 128, blocks=BLOCKS[1], stride=2)
        self.layer3 = _layer(512, 256, blocks=BLOCKS[2], stride=2)
        try:
            self.load_state_dict(
                {name: value for name, value in state.items() if not name.startswith(("layer4", "fc"))}
            )
        except RuntimeError as error:
            raise DataError(f"{weights} does not hold the weights of wide_resnet101_2") from error
        self.register_buffer("mean", IMAGENET_MEAN.clone())
        self.register_buffer("std", IMAGENET_STD.clone())
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, 512, 512) RGB in 0..1 -> (B, 384, 64, 64), not standardised."""
        features = F.relu(self.bn1(self.conv1((image - self.mean) / self.std)))
        second = self.layer2(self.layer1(F.max_pool2d(features, 3, stride=2, padding=1)))
        third = F.interpolate(self.layer3(second), size=(GRID, GRID), mode="bilinear", align_corners=False)
        cells = torch.cat([second, third], dim=1).permute(0, 2, 3, 1)
        pooled: Tensor = F.adaptive_avg_pool1d(cells.flatten(1, 2), self.channels)
        return pooled.reshape(-1, GRID, GRID, self.channels).permute(0, 3, 1, 2)


def _layer(inputs: int, planes: int, *, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, planes, stride)
    return nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1) for _ in range(blocks - 1)))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (OSError, EOFError, LookupError, RuntimeError, ValueError, UnpicklingError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read as a network's weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path} holds no state dict: save model.state_dict()")
    return state
