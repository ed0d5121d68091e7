"""Keeps what diffusers' cross-attentions look at. Knows no prompt's meaning."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(Protocol):
    """What is used of diffusers' attention module."""

    heads: int
    scale: float
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.ModuleList


class Recorder:
    """Cross-attention as diffusers' AttnProcessor computes it, which keeps its map of the last call."""

    def __init__(self) -> None:
        self.map: Tensor | None = None  # (B, S, T) mean over heads

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, S, C) image places attend to (B, T, D) tokens; the mask is (B, 1, T), added before the softmax."""
        query = split(attn.to_q(hidden_states), attn.heads)
        key, value = (split(part(encoder_hidden_states), attn.heads) for part in (attn.to_k, attn.to_v))
        scores = query @ key.transpose(-1, -2) * attn.scale
        if attention_mask is not None:
            scores = scores + attention_mask[:, None]
        attention = scores.softmax(dim=-1)
        self.map = attention.mean(dim=1)
        mixed = (attention @ value).transpose(1, 2).flatten(2)
        for layer in attn.to_out:
            mixed = layer(mixed)
        return mixed


def record(network: nn.Module) -> list[Recorder]:
    """Let every cross-attention of a diffusers U-Net keep its map; the recorders, in the layers' order."""
    processors: dict[str, object] = dict(network.attn_processors)  # type: ignore[arg-type]
    recorders = {name: Recorder() for name in processors if name.endswith("attn2.processor")}
    network.set_attn_processor(processors | recorders)  # type: ignore[operator]
    return list(recorders.values())


def split(features: Tensor, heads: int) -> Tensor:
    """(B, S, heads * C) -> (B, heads, S, C)."""
    return features.reshape(*features.shape[:2], heads, -1).transpose(1, 2)


def recorded(recorders: list[Recorder]) -> list[Tensor]:
    """The maps of the last pass over square pictures, one a layer, each (B, T, s, s); the shares of a place sum to 1.

    Raises:
        RuntimeError: there was no pass.
    """
    maps = []
    for recorder in recorders:
        if recorder.map is None:
            raise RuntimeError("nothing was recorded yet: run the network first")
        count, places, words = recorder.map.shape
        side = math.isqrt(places)
        maps.append(recorder.map.transpose(1, 2).reshape(count, words, side, side))
    return maps


def mean_map(maps: list[Tensor], side: int) -> Tensor:
    """Mean over layers at one resolution, (B, T, side, side)."""
    resized = [F.interpolate(item, size=(side, side), mode="bilinear", align_corners=False) for item in maps]
    return torch.stack(resized).mean(dim=0)
