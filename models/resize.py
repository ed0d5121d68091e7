"""Antialiased resize as two matrix products: any image size, the same numbers in torch, ONNX and TensorRT."""

import torch
from torch import Tensor

from models.grid import NETWORK_SIDE

SIDES = (16, 16384)  # pixels; images with sides between are taken


def network_image(image: Tensor) -> Tensor:
    """What the networks see of an image.

    A triangle filter as wide as the shrinking asks for, like PIL's and torch's antialiased bilinear. The operator for
    it is not used because TensorRT's parser refuses it.

    Args:
        image: (H, W, C) uint8, C = 1 grey or 3 RGB.

    Returns:
        (1, 3, 256, 256) in 0..1.
    """
    height, width, channels = image.shape
    pixels = image.to(torch.float32)  # cast first: TensorRT cannot transpose uint8
    rows = interpolation(height, NETWORK_SIDE) @ pixels.reshape(height, width * channels)
    planes = rows.reshape(NETWORK_SIDE, width, channels).permute(2, 0, 1)
    square = planes @ interpolation(width, NETWORK_SIDE).T
    return (square / 255).expand(3, NETWORK_SIDE, NETWORK_SIDE).unsqueeze(0)


def interpolation(size_in: int, size_out: int) -> Tensor:
    """Weights (size_out, size_in) that bring size_in samples to size_out; each row sums to one."""
    scale = torch.scalar_tensor(size_in, dtype=torch.float32) / size_out
    support = scale.clamp(min=1)
    centres = (torch.arange(size_out, dtype=torch.float32) + 0.5) * scale
    samples = torch.arange(size_in, dtype=torch.float32) + 0.5
    weights = (1 - (samples[None, :] - centres[:, None]).abs() / support).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
