"""Which good image an edited or inspected one is compared with, and what differs: ComGEN's RNA and RM (Tong et al.).

The paper's text could not be had; its abstract says that references are matched iteratively across scales, and the
rest is rebuilt. Knows no network but features.
"""

from collections.abc import Sequence
from typing import TypeAlias, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.coreset import greedy_coreset
from models.grid import GRID, in_cells
from models.progress import silent
from models.teacher import Scales, channel_moments

COUNT = 64  # good images that are kept
CANDIDATES = 3  # nearest of them that are looked at more closely
REACH = (1, 1, 0)  # cells of strides 4, 8 and 16 that a part of the reference may be moved, about the coarser's move
NORMAL_QUANTILE = 0.99  # an edit that differs less than so many cells of good images cannot be seen
_NOWHERE = 1e9  # distance of an entry that may not be chosen

Offsets: TypeAlias = list[tuple[int, int]]


class Scale(nn.Module):
    """The memory at one scale."""

    mean: Tensor  # (1, C, 1, 1), of the training images' features
    std: Tensor
    memory: Tensor  # (COUNT, C, h, w) half precision, standardised

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))
        self.register_buffer("memory", torch.zeros(COUNT, channels, side, side, dtype=torch.half))


class References(nn.Module):
    """Reference Neighbour Association: a memory of good images, and what an image differs in from the nearest.

    Candidates are the nearest at stride 16. At stride 8 the one is taken that fits best when its parts may move a
    little; at stride 4 they may move a little more, about where they were found before. It is one image everywhere:
    were each place free to choose its own, a part that does not belong to the others would find its like.
    """

    sources: Tensor  # (COUNT,) which training images are remembered; -1: the entry is empty

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Scale(width, GRID >> index) for index, width in enumerate(channels))
        self.register_buffer("sources", torch.full((COUNT,), -1))

    def forward(
        self, features: Scales, region: Tensor, source: Tensor | None = None, rank: Tensor | None = None
    ) -> Scales:
        """How images differ from their references.

        Args:
            features: standardised, each (B, C, h, w).
            region: (1, 1, 64, 64), 1 where the part is inspected, else 0.
            source: (B,) the training image that each is or was made from, never its own reference; None: new images.
            rank: (B,) of 0..CANDIDATES - 1, the candidate to take, 0 the nearest at stride 16; None: the best at
                stride 8.

        Returns:
            absolute differences, each (B, C, h, w).
        """
        fine, middle, coarse = features
        nearest = self.distances(coarse, region, source).topk(CANDIDATES, largest=False).indices  # (B, CANDIDATES)
        if rank is None:
            rank = self._best_fit(middle, nearest, region)
        chosen = nearest.gather(1, rank[:, None])[:, 0]
        coarse_difference, shift = match(coarse, self._memory(2)[chosen].float(), unmoved(coarse), REACH[2])
        middle_difference, shift = match(middle, self._memory(1)[chosen].float(), doubled(shift), REACH[1])
        fine_difference, _ = match(fine, self._memory(0)[chosen].float(), doubled(shift), REACH[0])
        return fine_difference, middle_difference, coarse_difference

    def standardise(self, features: Scales) -> Scales:
        """Each channel in deviations of the training images' from their mean."""
        fine, middle, coarse = (
            (taps.float() - scale.mean) / scale.std for taps, scale in zip(features, self._scales(), strict=True)
        )
        return fine, middle, coarse

    def distances(self, coarse: Tensor, region: Tensor, source: Tensor | None = None) -> Tensor:
        """(B, COUNT) squared distances at stride 16, but for a term common to an image's; region and source as above.

        The source itself and empty entries are further than all others.
        """
        share = F.avg_pool2d(region, GRID // coarse.shape[-1])
        memory = self._memory(2).float() * share
        distance = memory.square().flatten(1).sum(dim=1) - 2 * (coarse * share).flatten(1) @ memory.flatten(1).T
        forbidden = self.sources[None] < 0
        if source is not None:
            forbidden = forbidden | (self.sources[None] == source[:, None])
        return distance + _NOWHERE * forbidden

    @torch.inference_mode()
    def remember(self, features: Sequence[Scales], seed: int) -> None:
        """Fill the memory from the training images' features, not standardised, each (1, C, h, w).

        K-centre at stride 16: the images kept leave none far away.
        """
        for index, scale in enumerate(self._scales()):
            mean, deviation = channel_moments([taps[index] for taps in features])
            scale.mean.copy_(mean)
            scale.std.copy_(deviation)
        coarse = torch.cat([self.standardise(taps)[2].flatten(1) for taps in features])
        random = torch.Generator().manual_seed(seed)
        chosen = greedy_coreset(coarse.cpu(), min(COUNT, len(features)), random, silent)
        self.sources.fill_(-1)
        self.sources[: len(chosen)] = chosen
        for entry, image in enumerate(chosen.tolist()):
            for scale, taps in zip(self._scales(), self.standardise(features[image]), strict=True):
                scale.memory[entry] = taps[0]

    def _best_fit(self, middle: Tensor, nearest: Tensor, region: Tensor) -> Tensor:
        """(B,) of 0..CANDIDATES - 1: whose parts, moved a little, differ least at stride 8."""
        share = F.avg_pool2d(region, GRID // middle.shape[-1])
        each = middle[:, None].expand(-1, CANDIDATES, -1, -1, -1).flatten(0, 1)
        difference, _ = match(each, self._memory(1)[nearest.flatten()].float(), unmoved(each), REACH[1])
        fits = (difference * share).mean(dim=(1, 2, 3)).view(-1, CANDIDATES)
        return fits.argmin(dim=1)

    def _scales(self) -> list[Scale]:
        return [cast(Scale, scale) for scale in self.scales]

    def _memory(self, index: int) -> Tensor:
        return self._scales()[index].memory


def match(features: Tensor, reference: Tensor, start: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Difference to a reference whose parts may each move by a few cells.

    Args:
        features: (B, C, h, w).
        reference: (B, C, h, w).
        start: (B, 2, h, w) integer moves in rows and columns, about which the best is looked for.
        reach: cells, in rows and in columns.

    Returns:
        absolute differences (B, C, h, w), and the moves (B, 2, h, w). The best move of a cell has the least mean
        difference over the 3 x 3 cells about it; of equal ones the smallest is taken.
    """
    height, width = features.shape[2:]
    rows = torch.arange(height, device=features.device)[:, None] + start[:, 0]
    columns = torch.arange(width, device=features.device) + start[:, 1]
    cells = reference.flatten(2)
    best, best_error, best_shift = features, features[:, :1], start  # replaced by the first offset
    for index, (down, right) in enumerate(offsets(reach)):
        place = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
        moved = cells.gather(2, place.flatten(1)[:, None].expand(-1, cells.shape[1], -1))
        difference = (features - moved.view_as(features)).abs()
        error = F.avg_pool2d(difference.mean(dim=1, keepdim=True), 3, stride=1, padding=1, count_include_pad=False)
        shift = start + torch.tensor((down, right), device=start.device).view(1, 2, 1, 1)
        if index == 0:
            best, best_error, best_shift = difference, error, shift
        else:
            better = error < best_error
            best = torch.where(better, difference, best)
            best_shift = torch.where(better, shift, best_shift)
            best_error = torch.minimum(error, best_error)
    return best, best_shift


def offsets(reach: int) -> Offsets:
    """All moves by at most so many rows and columns, the smallest first."""
    moves = [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
    return sorted(moves, key=lambda move: move[0] ** 2 + move[1] ** 2)


def unmoved(features: Tensor) -> Tensor:
    """No moves (B, 2, h, w) of features (B, C, h, w)."""
    return torch.zeros(len(features), 2, *features.shape[2:], dtype=torch.long, device=features.device)


def doubled(shift: Tensor) -> Tensor:
    """Moves (B, 2, h, w) as those of the next finer scale, (B, 2, 2 h, 2 w)."""
    batch, two, height, width = shift.shape
    wide = (2 * shift)[:, :, :, None, :, None].expand(batch, two, height, 2, width, 2)
    return wide.reshape(batch, two, 2 * height, 2 * width)


def residual_map(differences: Scales) -> Tensor:
    """Differences (B, C, h, w) at three scales -> (B, 64, 64), their mean over channels and scales."""
    means = [taps.mean(dim=1, keepdim=True) for taps in differences]
    wide = [F.interpolate(taps, size=(GRID, GRID), mode="bilinear", align_corners=False) for taps in means]
    return torch.cat(wide, dim=1).mean(dim=1)


def residual_mask(edited: Tensor, residual: Tensor, normal: float) -> Tensor | None:
    """Residual Mapping: what of a known edit can be seen.

    The residual is divided by Otsu's threshold, or at what is normal if that is lower (one strong difference must not
    hide another), and joined with the edit. An attention map of the edited token, where there is one, is multiplied
    into the residual beforehand.

    Args:
        edited: (256, 256) in 0..1, where the image was edited and how much of the edit shows.
        residual: (64, 64) of the edited image against its reference.
        normal: the `NORMAL_QUANTILE` of the residuals of good images' cells.

    Returns:
        the mask (64, 64) in 0..1; None if the edit cannot be seen: what is left of it differs no more than is normal.
    """
    mask = in_cells(edited) * (residual > min(otsu(residual), normal))
    if not mask.any() or float((mask * residual).sum() / mask.sum()) <= normal:
        return None
    return mask


def otsu(values: Tensor) -> float:
    """The threshold that divides the values best into two kinds (Otsu 1979), to 1/255 of their range."""
    low, high = float(values.min()), float(values.max())
    levels = (255 * (values - low) / max(high - low, 1e-12)).round().cpu().numpy().astype(np.uint8)
    level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return low + (level + 0.5) / 255 * (high - low)
