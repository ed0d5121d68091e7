"""The network of the compact ComGEN: pictures of 64 x 64 pixels, denoised as a prompt of components says."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.comgen.attention import record, recorded
from models.comgen.scene import SIDE
from models.comgen.tokens import OCTAVES, Prompts, Vocabulary, fourier

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

CHANNELS = (32, 64, 128)  # at 64 x 64, 32 x 32 and 16 x 16
HEADS = 4
WIDTH = 64  # of a token


class Denoiser(nn.Module):
    """A U-Net with cross-attention to the prompt at 32 x 32 and 16 x 16; 4.1 M parameters. A latent is the picture.

    Every pixel is told where it is: convolutions alone do not know, and could not find the place that a token names.
    Self-attention is at 16 x 16 alone: at 32 x 32 it costs a third of a training step.
    """

    places: Tensor

    def __init__(self, components: int, modes: int) -> None:
        from diffusers import UNet2DConditionModel  # it costs seconds

        super().__init__()
        self.vocabulary = Vocabulary(components, modes, WIDTH)
        self.schedule = noise_schedule()
        self.network = UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3 + 4 * OCTAVES,
            out_channels=3,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=CHANNELS,
            layers_per_block=1,
            only_cross_attention=(False, True, False),
            mid_block_only_cross_attention=False,
            cross_attention_dim=WIDTH,
            attention_head_dim=HEADS,  # diffusers' name for the number of heads
            norm_num_groups=8,
            use_linear_projection=True,
        )
        self.recorders = record(self.network)
        self.register_buffer("places", places(), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def learned(self) -> nn.Module:
        """All of it."""
        return self

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, 64, 64) in 0..1 -> the same in -1..1."""
        return image * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        """(B, 3, 64, 64) in -1..1 -> the same in 0..1."""
        return (latent / 2 + 0.5).clamp(0, 1)

    def forward(self, noisy: Tensor, time: Tensor, prompts: Prompts) -> tuple[Tensor, list[Tensor]]:
        """The velocity v = sqrt(a) noise - sqrt(1 - a) picture (Salimans & Ho 2022), (B, 3, 64, 64), and the maps."""
        words, there = self.vocabulary(prompts)
        placed = torch.cat([noisy, self.places.expand(len(noisy), -1, -1, -1)], dim=1)
        placed = placed.contiguous(memory_format=torch.channels_last)
        velocity = self.network(placed, time, words, encoder_attention_mask=there).sample
        return velocity, recorded(self.recorders)


def places() -> Tensor:
    """Where every pixel is, as boxes are told to the vocabulary, (1, 4 * OCTAVES, 64, 64)."""
    centres = (torch.arange(SIDE) + 0.5) / SIDE
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), dim=-1)
    return fourier(grid).permute(2, 0, 1)[None]


def noise_schedule() -> "DDIMScheduler":
    """Cosine (Nichol & Dhariwal 2021), which ends in pure noise, walked from its very end (Lin et al. 2024)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing")
