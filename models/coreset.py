"""Which few of many vectors stand for all of them. Knows not what they describe."""

import torch
from torch import Tensor

from models.progress import Progress


@torch.inference_mode()
def greedy_coreset(
    patches: Tensor, count: int, random: torch.Generator, progress: Progress, *, width: int = 64
) -> Tensor:
    """Indices (count,) of patches (n, C) that leave none far away: each is the one furthest from all before (k-centre).

    Distances are taken after a random projection to so many dimensions, which nearly keeps them.
    """
    projection = torch.randn(patches.shape[1], width, generator=random) / width**0.5
    projected = (patches - patches.mean(dim=0)) @ projection
    squares = projected.square().sum(dim=1)
    distances = torch.full_like(squares, torch.inf)
    chosen = torch.empty(count, dtype=torch.long)
    index = int(torch.randint(len(patches), (), generator=random))
    for done in range(count):
        chosen[done] = index
        to_index = squares + squares[index] - 2 * (projected @ projected[index])
        torch.minimum(distances, to_index, out=distances)
        index = int(distances.argmax())
        if done % 100 == 99 or done + 1 == count:
            progress("choosing patches", done + 1, count)
    return chosen
