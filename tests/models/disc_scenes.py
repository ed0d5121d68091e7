"""Scenes of a tiny product: a disc, red or blue, on the left, and a white one on the right."""

import numpy as np
import torch
from torch import Tensor

from models.comgen.scene import Scene, Token

COLOURS = (torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9]))
WHITE = torch.tensor([0.95, 0.95, 0.95])
RADIUS = 9


def disc(component: int, mode: int, row: int, column: int) -> Token:
    """A disc of RADIUS around a pixel."""
    box = tuple(value / 64 for value in (row - RADIUS, column - RADIUS, row + RADIUS, column + RADIUS))
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= RADIUS**2
    return Token(component, mode, (box[0], box[1], box[2], box[3]), inside.float())


def picture(*tokens: Token) -> Tensor:
    """(3, 64, 64): the discs on grey."""
    image = torch.full((3, 64, 64), 0.4)
    for token in tokens:
        colour = COLOURS[token.mode] if token.component == 0 else WHITE
        image = torch.where(token.mask > 0, colour[:, None, None], image)
    return image


def disc_scenes(count: int) -> tuple[list[Scene], list[Scene]]:
    """Good ones, and ones that lack a disc."""
    draw = np.random.default_rng(0)
    good, erased = [], []
    for number in range(count):
        row, left, right = (int(value) for value in draw.integers((20, 14, 44), (44, 20, 50)))
        tokens = disc(0, number % 2, row, left), disc(1, 0, row, right)
        good.append(Scene(picture(*tokens), tokens))
        erased.append(Scene(picture(tokens[number % 2]), (tokens[number % 2],)))
    return good, erased
