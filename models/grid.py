"""The geometry that all networks share: what they see of an image, and where their features lie. Knows no network."""

import torch
from torch import Tensor
from torch.nn import functional as F

NETWORK_SIDE = 256  # pixels; every network here sees the image resized to this square
GRID = 64  # feature cells along a side
STRIDE = 4  # pixels between neighbouring cells
RECEPTIVE_FIELD = 33  # pixels that one feature of a PDN sees
BEFORE = 14  # pixels that a PDN's field begins before its 4 x 4 cell: the cell is in its middle

IMAGENET_MEAN = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
IMAGENET_STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)


def pad_for_pdn(image: Tensor) -> Tensor:
    """Mirror the border, so that a PDN's unpadded features cover the whole image, one per grid cell.

    (B, 3, 256, 256) -> (B, 3, 285, 285).
    """
    after = RECEPTIVE_FIELD + STRIDE * (GRID - 1) - BEFORE - image.shape[-1]
    return F.pad(image, (BEFORE, after, BEFORE, after), mode="reflect")


def crop_for_pdn(image: Tensor, top: int, left: int, cells: int) -> Tensor:
    """The part of a network image whose PDN features are the grid cells from (top, left) on, cells x cells."""
    side = RECEPTIVE_FIELD + STRIDE * (cells - 1)
    padded = pad_for_pdn(image)
    return padded[..., STRIDE * top : STRIDE * top + side, STRIDE * left : STRIDE * left + side]


def in_cells(mask: Tensor) -> Tensor:
    """(256, 256) -> (64, 64), the mean over each cell."""
    return F.avg_pool2d(mask[None, None], mask.shape[-1] // GRID)[0, 0]


def smooth(maps: Tensor) -> Tensor:
    """Mean over 3 x 3 cells of the image, (K, h, w)."""
    return F.avg_pool2d(maps[None], 3, stride=1, padding=1, count_include_pad=False)[0]
