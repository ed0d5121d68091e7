"""Cross-Scale Difference Aggregation: where an image differs from its reference in a way that matters (Tong et al.).

The paper's text could not be had: the network is rebuilt from what its abstract and figures say. Knows no image.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.references import References
from models.teacher import Scales

WIDTH = 64
COARSE_LAYERS = 10  # at stride 16, where they see the whole part and cost little
TOP_CELLS = 16  # whose mean logit is the image score: a single cell is one in four thousand good ones
FOCUS = 2.0  # gamma of the focal loss
L1_WEIGHT = 0.6
PRIOR = -3.0  # logit of the mask before anything is learned: anomalies are rare (RetinaNet, Lin et al. 2017)


class Aggregation(nn.Module):
    """Differences at three scales -> logits of the anomaly mask; 0.7 M parameters, most where cells are few.

    Every scale is brought to one width, told of the coarser ones (top-down), then of the finer ones (bottom-up). A
    spatial gate (CBAM, Woo et al. 2018, Eq 3) says which cells count in what is put together.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(_convolution(width, WIDTH, 1) for width in channels)
        self.coarse = nn.Sequential(*(_convolution(WIDTH, WIDTH, 3) for _ in range(COARSE_LAYERS)))
        self.down = nn.ModuleList(_joined() for _ in channels[1:])
        self.shrink = nn.ModuleList(_convolution(WIDTH, WIDTH, 3, stride=2) for _ in channels[1:])
        self.up = nn.ModuleList(_joined() for _ in channels[1:])
        self.gate = nn.Conv2d(2, 1, 7, padding=3)
        last = nn.Conv2d(WIDTH, 1, 1)
        nn.init.constant_(cast(Tensor, last.bias), PRIOR)
        self.head = nn.Sequential(_convolution(WIDTH, WIDTH, 3), last)

    def forward(self, differences: Scales) -> Tensor:
        """(B, C, 64, 64), (B, C', 32, 32), (B, C'', 16, 16) -> (B, 64, 64)."""
        fine, middle, coarse = (reduce(taps) for reduce, taps in zip(self.reduce, differences, strict=True))
        coarse = self.coarse(coarse)
        middle = self.down[1](torch.cat([middle, _wider(coarse, 2)], dim=1))
        fine = self.down[0](torch.cat([fine, _wider(middle, 2)], dim=1))
        middle = self.up[0](torch.cat([middle, self.shrink[0](fine)], dim=1))
        coarse = self.up[1](torch.cat([coarse, self.shrink[1](middle)], dim=1))
        together = fine + _wider(middle, 2) + _wider(coarse, 4)
        summary = torch.cat([together.mean(dim=1, keepdim=True), together.amax(dim=1, keepdim=True)], dim=1)
        logits: Tensor = self.head(together * torch.sigmoid(self.gate(summary)))
        return logits[:, 0]


class Csda(nn.Module):
    """References and what is made of the differences to them: features at three scales -> logits of the mask."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.references = References(channels)
        self.aggregation = Aggregation(channels)

    def forward(self, features: Scales, region: Tensor) -> Tensor:
        """Compare an image with its reference.

        Args:
            features: of the teacher, not standardised, each (B, C, h, w).
            region: (1, 1, 64, 64), 1 where the part is inspected, else 0.

        Returns:
            logits (B, 64, 64).
        """
        differences = self.references(self.references.standardise(features), region)
        logits: Tensor = self.aggregation(differences)
        return logits


def image_score(logits: Tensor, region: Tensor) -> Tensor:
    """Logits (64, 64) and region (1, 1, 64, 64) -> (), the mean of the highest logits that are inspected.

    It is of logits, as probabilities end at 1, where one defect could not be told from a worse one.
    """
    inspected = logits + (region[0, 0] - 1) * 1e6
    highest = inspected.flatten().topk(TOP_CELLS).values
    return highest.maximum(highest[:1] - 1e5).mean()  # where fewer cells are inspected


def mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal + dice + 0.6 L1, each a mean over images.

    The focal loss (Lin et al. 2017) finds anomalies wherever they are: cells that are anomalous and cells that are not
    count equally, however few the former. Dice (Milletari et al. 2016) and L1 ask for their extent.

    Args:
        logits: (B, n) of inspected cells.
        mask: (B, n) in 0..1.

    Returns:
        ().
    """
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    focal = (probability - mask).abs().pow(FOCUS) * entropy
    anomalous = (focal * mask).sum() / (mask.sum() + 1)
    normal = (focal * (1 - mask)).sum() / ((1 - mask).sum() + 1)
    overlap = 2 * (probability * mask).sum(dim=1) + 1
    dice = 1 - overlap / (probability.sum(dim=1) + mask.sum(dim=1) + 1)
    return anomalous + normal + dice.mean() + L1_WEIGHT * (probability - mask).abs().mean()


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _joined() -> nn.Sequential:
    """Two scales, one above the other, become one."""
    return nn.Sequential(_convolution(2 * WIDTH, WIDTH, 1), _convolution(WIDTH, WIDTH, 3))


def _wider(features: Tensor, factor: int) -> Tensor:
    side = features.shape[-1] * factor
    return F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
