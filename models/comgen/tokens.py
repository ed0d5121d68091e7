"""Prompts as vectors: a learned embedding for every component, its adjective and its place. Knows no picture."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.comgen.scene import MOST_TOKENS, SIDE, Token

OCTAVES = 4  # of the Fourier features of a place: periods of 2, 1, 1/2 and 1/4 of the picture
TEMPERATURE = 0.2  # of InfoNCE


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """A batch of B prompts of T tokens each, empty places at the end."""

    component: Tensor  # (B, T) int64
    mode: Tensor  # (B, T) int64
    box: Tensor  # (B, T, 4)
    boxed: Tensor  # (B, T) bool: the token says where; else only what
    present: Tensor  # (B, T) bool
    mask: Tensor  # (B, T, 64, 64)

    def __getitem__(self, index: Tensor | slice) -> "Prompts":
        """Some of the prompts, by their indices (b,) or a slice."""
        return Prompts(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def shared_masks(self) -> Tensor:
        """(B, T, 64, 64): the mask that a token's attention can have.

        Tokens that say the same, having no box, cannot be told apart: each gets the mean of their masks.
        """
        name = torch.stack([self.component, self.mode], dim=-1)
        alike = (name[:, :, None] == name[:, None, :]).all(dim=-1) & ~self.boxed[:, :, None] & ~self.boxed[:, None, :]
        itself = torch.eye(name.shape[1], dtype=torch.bool, device=name.device)
        share = ((alike | itself) & self.present[:, None, :]).float()
        share = share / share.sum(dim=2, keepdim=True).clamp(min=1)
        return torch.einsum("bij,bjhw->bihw", share, self.mask) * self.present[..., None, None]


def batch(prompts: Sequence[Sequence[Token]]) -> Prompts:
    """Prompts of at most MOST_TOKENS tokens each, with their boxes."""
    empty = Token(0, 0, (0.0, 0.0, 0.0, 0.0), torch.zeros(SIDE, SIDE))
    padded = [[*tokens, *[empty] * (MOST_TOKENS - len(tokens))] for tokens in prompts]
    present = torch.tensor([[place < len(tokens) for place in range(MOST_TOKENS)] for tokens in prompts])
    return Prompts(
        component=torch.tensor([[token.component for token in tokens] for tokens in padded]),
        mode=torch.tensor([[token.mode for token in tokens] for tokens in padded]),
        box=torch.tensor([[token.box for token in tokens] for tokens in padded], dtype=torch.float32),
        boxed=present,
        present=present,
        mask=torch.stack([torch.stack([token.mask for token in tokens]) for tokens in padded]),
    )


class Vocabulary(nn.Module):
    """Tokens as vectors: e_component + adjective + MLP(Fourier features of the box).

    A token of its own, always there, stands for the background: the attention goes there where no component is.
    """

    def __init__(self, components: int, modes: int, width: int) -> None:
        super().__init__()
        self.modes = modes
        self.component = nn.Embedding(components, width)
        self.adjective = nn.Embedding(components * modes, width)
        self.background = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Sequential(nn.Linear(8 * OCTAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Background first, then the tokens: vectors (B, 1 + T, width); which of them are there, (B, 1 + T) bool.

        Raises:
            IndexError: a component or mode is not in the vocabulary.
        """
        self._require(prompts)
        words = self.component(prompts.component) + self.adjective(prompts.component * self.modes + prompts.mode)
        words = words + self.place(fourier(prompts.box)) * prompts.boxed[..., None]
        background = self.background.expand(len(words), -1, -1)
        there = F.pad(prompts.present, (1, 0), value=True)
        return torch.cat([background, words], dim=1), there

    def contrast(self) -> Tensor:
        """InfoNCE (van den Oord et al. 2018) as in MCPL (Jin et al. 2024): a component with an adjective is near the

        component itself, and far from all others.

        Returns:
            (): mean over components and adjectives.
        """
        names = self.component.weight
        described = names[:, None] + self.adjective.weight.view(len(names), self.modes, -1)
        likeness = F.normalize(described.flatten(0, 1), dim=1) @ F.normalize(names, dim=1).T
        wanted = torch.arange(len(names), device=names.device).repeat_interleave(self.modes)
        return F.cross_entropy(likeness / TEMPERATURE, wanted)

    def _require(self, prompts: Prompts) -> None:
        sizes = {"component": (prompts.component, self.component.num_embeddings), "mode": (prompts.mode, self.modes)}
        for name, (index, size) in sizes.items():
            if index.min() < 0 or index.max() >= size:
                raise IndexError(f"a {name} of the prompt is not among the vocabulary's {size}")


def fourier(place: Tensor) -> Tensor:
    """Sines and cosines of coordinates, (..., n) -> (..., 2 * n * OCTAVES) (Tancik et al. 2020, axis-aligned)."""
    angles = place[..., None] * torch.pi * 2.0 ** torch.arange(OCTAVES, device=place.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
