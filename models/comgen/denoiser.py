"""The network of the compact ComGEN: pictures of 64 x 64 pixels, denoised as a prompt of components says."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.comgen.attention import Recorder, recorded
from models.comgen.scene import SIDE
from models.comgen.tokens import WIDTH, Prompts, Vocabulary

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

CHANNELS = (32, 64, 128)  # at 64 x 64, 32 x 32 and 16 x 16
HEADS = 4
TIMES = 1000  # of the noise schedule


class Denoiser(nn.Module):
    """A U-Net with cross-attention to the prompt at 32 x 32 and 16 x 16; 4.2 M parameters.

    Self-attention is at 16 x 16 alone: at 32 x 32 it costs a third of a training step.
    """

    def __init__(self, components: int, modes: int) -> None:
        from diffusers import UNet2DConditionModel  # it costs seconds

        super().__init__()
        self.vocabulary = Vocabulary(components, modes)
        self.network = UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3,
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
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, noisy: Tensor, time: Tensor, prompts: Prompts) -> tuple[Tensor, list[Tensor]]:
        """The velocity v = sqrt(a) noise - sqrt(1 - a) picture (Salimans & Ho 2022), and where the prompt's words are.

        Args:
            noisy: (B, 3, 64, 64), pictures in -1..1 with noise.
            time: (B,) int64, below TIMES.
            prompts: B of them, of T tokens.

        Returns:
            the velocity (B, 3, 64, 64), and a map (B, 1 + T, s, s) a layer: the background's, then the tokens' shares
            of the attention at every place.
        """
        words, there = self.vocabulary(prompts)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        velocity = self.network(noisy, time, words, encoder_attention_mask=there).sample
        return velocity, recorded(self.recorders)


def record(network: nn.Module) -> list[Recorder]:
    """Let every cross-attention of a diffusers U-Net keep its map."""
    processors = dict(network.attn_processors)  # type: ignore[arg-type]
    recorders = {name: Recorder() for name in processors if name.endswith("attn2.processor")}
    network.set_attn_processor(processors | recorders)  # type: ignore[operator]
    return list(recorders.values())


def noise_schedule() -> "DDIMScheduler":
    """Cosine (Nichol & Dhariwal 2021), which ends in pure noise, walked from its very end (Lin et al. 2024)."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TIMES,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=True,
    )
