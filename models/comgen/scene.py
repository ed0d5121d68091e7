"""A picture and its prompt: which component instances are in it, of which kind, and where. Knows no network."""

from dataclasses import dataclass

from torch import Tensor

SIDE = 64  # pixels of a picture and cells of a mask
MOST_TOKENS = 16  # of a prompt

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """One component instance in a picture, as the prompt names it."""

    component: int  # index into the vocabulary
    mode: int  # adjective (colour, kind) of this component; 0 if it has but one
    box: Box  # top, left, bottom, right in 0..1
    mask: Tensor  # (64, 64) share of each cell that is this instance, 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and its prompt."""

    image: Tensor  # (3, 64, 64) in 0..1
    tokens: tuple[Token, ...]  # at most MOST_TOKENS

    def __post_init__(self) -> None:
        if len(self.tokens) > MOST_TOKENS:
            raise ValueError(f"a prompt has at most {MOST_TOKENS} tokens, not {len(self.tokens)}")
