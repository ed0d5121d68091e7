"""Scores of the whole image beside the anomaly maps (logical heads): distances of a few numbers that describe it.

Knows no threshold. Each is part of the exported graph.
"""

import torch
from torch import Tensor, nn

from models.grid import GRID


class Distance(nn.Module):
    """Mahalanobis distance to the nearest kind of good images, as an image's embedding (D,) has it.

    A product may come in kinds (flavours, variants), and what lies between two of them is none: the label of one with
    the cable of another. So each kind has a mean of its own; one covariance about it serves them all.
    """

    KINDS = 8  # that a product may have at most; where it has fewer, the means repeat

    means: Tensor  # (KINDS, D)
    whitening: Tensor  # (D, D), root of the inverse covariance

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(self.KINDS, dimension))
        self.register_buffer("whitening", torch.eye(dimension))

    def forward(self, embedding: Tensor) -> Tensor:
        """(D,) -> ()."""
        return ((embedding - self.means) @ self.whitening.T).square().sum(dim=1).amin(dim=0).sqrt()


class Components(nn.Module):
    """Which component each cell shows, from the teacher's features: how much there is of each, and what it looks like.

    A 1 x 1 convolution with soft-max over `COUNT` components. k-means fills it (`models.calibrate`); whoever knows the
    components better can fill it with theirs.
    """

    COUNT = 16
    COLOURS = 8  # numbers that say what a component looks like: principal components of the teacher's features
    DIMENSION = COUNT * (1 + COLOURS)
    PLACE = 0.2  # weight of where a cell lies beside what it shows

    weight: Tensor  # (COUNT, C + 2)
    bias: Tensor  # (COUNT, 1)
    colours: Tensor  # (COLOURS, C)
    places: Tensor  # (2, 4096), rows and columns of the cells in -1..1, times PLACE and the root of C

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.linspace(-1, 1, GRID)
        places = torch.stack([line.repeat_interleave(GRID), line.repeat(GRID)])
        self.register_buffer("weight", torch.zeros(self.COUNT, channels + 2))
        self.register_buffer("bias", torch.zeros(self.COUNT, 1))
        self.register_buffer("colours", torch.zeros(self.COLOURS, channels))
        self.register_buffer("places", self.PLACE * channels**0.5 * places)

    def forward(self, features: Tensor, region: Tensor) -> Tensor:
        """Areas and looks of the components.

        Args:
            features: (1, C, 64, 64), standardised.
            region: (1, 1, 64, 64), 1 where the part is inspected.

        Returns:
            (DIMENSION,): each component's share of the region, then each one's mean looks times that share's root.
        """
        cells = features.flatten(2)[0]  # (C, 4096)
        share = self.shares(cells) * region.flatten(2)[0] / region.sum()  # (COUNT, 4096)
        area = share.sum(dim=1, keepdim=True)
        looks = (share @ (self.colours @ cells).T) / (area.sqrt() + 1e-3)
        return torch.cat([area.flatten(), looks.flatten()])

    def shares(self, cells: Tensor) -> Tensor:
        """(C, 4096) -> (COUNT, 4096), how much of each cell belongs to each component; they sum to one."""
        return torch.softmax(self.weight @ torch.cat([cells, self.places]) + self.bias, dim=0)
