"""Networks of the right shapes that cost next to nothing, for tests of what is done with them."""

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from models.teacher import Scales


class TinyTeacher(nn.Module):
    """Random features of 4 x 4 pixels."""

    channels = 8
    scale_channels = (8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, self.channels, 4, stride=4)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.patches(image)
        return features

    def scales(self, image: Tensor) -> Scales:
        features = self(image)
        return features, F.avg_pool2d(features, 2), F.avg_pool2d(features, 4)

    def join(self, scales: Scales) -> Tensor:
        return scales[0]


def tiny_pdn(_size: str, channels: int) -> nn.Sequential:
    """One convolution that sees 33 pixels at stride 4, as a PDN does."""
    return nn.Sequential(nn.Conv2d(3, channels, 33, stride=4))


def tiny_autoencoder(channels: int, *, instance_norm: bool, dropout: float) -> nn.Sequential:
    """As the auto-encoder, an image becomes features of every cell."""
    norm: list[nn.Module] = [nn.InstanceNorm2d(channels)] if instance_norm else []
    return nn.Sequential(nn.Conv2d(3, channels, 4, stride=4), *norm, nn.Dropout(dropout))


def use_tiny_networks(patch: pytest.MonkeyPatch) -> None:
    """Let every detector that is made from now on have them, whatever its method says."""
    patch.setattr("models.detector.open_teacher", lambda _name: TinyTeacher())
    patch.setattr("models.detector.pdn", tiny_pdn)
    patch.setattr("models.detector.AutoEncoder", tiny_autoencoder)
    patch.setattr("models.memory.PatchMemory.COUNT", 256)
