"""A toy product: two discs and a plate that is red or blue on grey ground, at slightly different places."""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Photo = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def photo(seed: int) -> tuple[Photo, Mask, Mask]:
    """(256, 256, 3) RGB, and where the discs and the plate are."""
    rng = np.random.default_rng(seed)
    picture = np.full((256, 256, 3), 120, np.uint8)
    discs, plate = np.zeros((256, 256), np.uint8), np.zeros((256, 256), np.uint8)
    for column in (60, 130):
        cv2.circle(discs, (column + int(rng.integers(-6, 7)), 70 + int(rng.integers(-6, 7))), 16, 1, -1)
    top = 170 + int(rng.integers(-5, 6))
    cv2.rectangle(plate, (150, top), (215, top + 40), 1, -1)
    picture[discs > 0] = (230, 220, 60)
    picture[plate > 0] = ((200, 40, 40), (40, 60, 200))[seed % 2]
    noisy = picture + rng.normal(0, 2, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), discs > 0, plate > 0


def network(picture: Photo) -> Tensor:
    """(1, 3, 256, 256) in 0..1."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
