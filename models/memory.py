"""How far an image's patches are from the nearest good ones (PatchCore, Roth et al. 2022), on the scale of their place.

Unlike a distance to one mean it holds where a good part has many looks, or lies anywhere. Knows no threshold.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.coreset import greedy_coreset
from models.grid import GRID, smooth
from models.normals import evenly
from models.progress import Progress

SIDE = 32  # patches along a side of the image
CANDIDATES = 60_000  # patches that the memory is chosen from
PLACE_IMAGES = 100  # training images that show how far from the others is usual at each place
NEAR = 0.05  # deviations; below that, distances are noise
LEAST_DEVIATION = 0.05  # of the logarithm, as images without noise have none
_NOWHERE = 1e6  # squared distance of an entry that may not be found


class PatchMemory(nn.Module):
    """A memory of good images' patches, and what is usual at each place."""

    COUNT = 8192

    patches: Tensor  # (COUNT, C) half precision, standardised
    squares: Tensor  # (COUNT,), their squared norms
    place_mean: Tensor  # (32, 32), of the logarithm of good images' distances
    place_std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("patches", torch.zeros(self.COUNT, channels, dtype=torch.half))
        self.register_buffer("squares", torch.zeros(self.COUNT))
        self.register_buffer("place_mean", torch.zeros(SIDE, SIDE))
        self.register_buffer("place_std", torch.ones(SIDE, SIDE))

    def forward(self, patches: Tensor, region: Tensor) -> Tensor:
        """The most unusual place of an image.

        Args:
            patches: (1024, C), see `patches_of`.
            region: (1, 1, 64, 64), 1 where the part is inspected.

        Returns:
            (), the logarithm of the mean distance of 3 x 3 inspected patches, in deviations of good images' there.
        """
        unusual = (self._logarithms(self.distances(patches), region) - self.place_mean) / self.place_std
        return (unusual + (inspected_patches(region)[0] - 1) * _NOWHERE).amax(dim=(0, 1))

    def distances(self, patches: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Distance to the nearest remembered patch, root of the mean square over channels.

        Args:
            patches: (n, C).
            hidden: (COUNT,) of bool, entries that may not be found; None: all may.

        Returns:
            (n,).
        """
        found = self.squares - 2 * patches @ self.patches.float().T
        if hidden is not None:
            found = found + _NOWHERE * hidden
        squared = found.amin(dim=1) + patches.square().sum(dim=1)
        return (squared.clamp(min=0) / patches.shape[1]).sqrt()

    @torch.inference_mode()
    def remember(self, images: Sequence[Tensor], region: Tensor, seed: int, progress: Progress) -> None:
        """Fill the memory, and learn what is usual at each place from distances to the patches of other images.

        Args:
            images: (1024, C) patches of each training image.
            region: (1, 1, 64, 64), 1 where the part is inspected; nothing else is remembered.
            seed: of the patches that are drawn.
            progress: told how many are chosen.
        """
        random = torch.Generator().manual_seed(seed)
        inspected = inspected_patches(region).flatten().nonzero().flatten()
        each = max(1, CANDIDATES // len(images))
        drawn = [inspected[torch.randperm(len(inspected), generator=random)[:each]] for _ in images]
        candidates = torch.cat([patches[places] for patches, places in zip(images, drawn, strict=True)])
        owners = torch.arange(len(images)).repeat_interleave(len(drawn[0]))
        chosen = greedy_coreset(candidates.float(), min(self.COUNT, len(candidates)), random, progress)
        chosen = chosen[torch.arange(self.COUNT) % len(chosen)]  # fewer are remembered several times
        self.patches.copy_(candidates[chosen])
        self.squares.copy_(self.patches.float().square().sum(dim=1))
        usual = []
        for index in evenly(len(images), PLACE_IMAGES):
            distances = self.distances(images[index].float(), owners[chosen] == index)
            usual.append(self._logarithms(distances, region))
        deviation, mean = torch.std_mean(torch.stack(usual), dim=0, keepdim=True)
        self.place_mean.copy_(smooth(mean)[0])
        self.place_std.copy_(smooth(deviation)[0].clamp(min=LEAST_DEVIATION))

    @staticmethod
    def _logarithms(distances: Tensor, region: Tensor) -> Tensor:
        """(1024,) -> (32, 32), of the means over 3 x 3 inspected patches."""
        inspected = inspected_patches(region)
        seen = F.avg_pool2d(torch.cat([distances.view(1, SIDE, SIDE) * inspected, inspected]), 3, stride=1, padding=1)
        return (seen[0] / seen[1].clamp(min=1 / 9) + NEAR).log()


def patches_of(features: Tensor, region: Tensor) -> Tensor:
    """(1, C, 64, 64) and (1, 1, 64, 64) -> (1024, C), each the mean over the inspected cells of 3 x 3 patches."""
    seen = F.avg_pool2d(torch.cat([features * region, region], dim=1), GRID // SIDE)
    local = F.avg_pool2d(seen, 3, stride=1, padding=1)
    patches: Tensor = local[:, :-1] / local[:, -1:].clamp(min=1 / 36)
    return patches.flatten(2)[0].T


def inspected_patches(region: Tensor) -> Tensor:
    """(1, 1, 64, 64) -> (1, 32, 32), 1 where any of a patch's cells is inspected."""
    return F.max_pool2d(region, GRID // SIDE)[0]
