"""The network of the full-size ComGEN: Stable Diffusion from a local folder, for a GPU. Nothing is ever downloaded."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.comgen.attention import record, recorded
from models.comgen.tokens import Prompts, Vocabulary
from models.data import DataError

PARTS = ("unet", "vae", "scheduler")


class StableDiffusion(nn.Module):
    """Everything but the vocabulary is frozen (MCPL, Jin et al. 2024).

    The words are learned where the cross-attention reads them, so that neither tokenizer nor text encoder is needed.
    """

    def __init__(self, folder: Path, components: int, modes: int) -> None:
        """Read the folder, as diffusers' `save_pretrained` writes a pipeline's.

        Raises:
            DataError: a part is missing or cannot be read.
        """
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # it costs seconds

        require_parts(folder)
        super().__init__()
        try:
            self.network = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
            self.autoencoder = AutoencoderKL.from_pretrained(folder / "vae", local_files_only=True)
            self.schedule = DDIMScheduler.from_pretrained(
                folder / "scheduler", local_files_only=True, timestep_spacing="trailing"
            )
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} holds no Stable Diffusion that can be read: {error}") from error
        self.requires_grad_(requires_grad=False).eval()
        self.vocabulary = Vocabulary(components, modes, self.network.config.cross_attention_dim)
        self.recorders = record(self.network)

    @property
    def learned(self) -> nn.Module:
        """The words alone."""
        return self.vocabulary

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) in 0..1 -> (B, 4, S / 8, S / 8)."""
        latent: Tensor = (
            self.autoencoder.encode(image * 2 - 1).latent_dist.mean * self.autoencoder.config.scaling_factor
        )
        return latent

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """(B, 4, S / 8, S / 8) -> (B, 3, S, S) in 0..1."""
        image: Tensor = self.autoencoder.decode(latent / self.autoencoder.config.scaling_factor).sample
        return (image / 2 + 0.5).clamp(0, 1)

    def forward(self, noisy: Tensor, time: Tensor, prompts: Prompts) -> tuple[Tensor, list[Tensor]]:
        """The prediction (B, 4, s, s) that the folder's scheduler is made for, and the maps."""
        words, there = self.vocabulary(prompts)
        prediction = self.network(noisy, time, words, encoder_attention_mask=there).sample
        return prediction, recorded(self.recorders)


def require_parts(folder: Path) -> None:
    """The folder is one of a Stable Diffusion pipeline.

    Raises:
        DataError: it is not there, or a part is missing.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise DataError(
            f"{folder} has no {' and no '.join(missing)}: give the folder of a Stable Diffusion pipeline, "
            "as diffusers' save_pretrained writes it"
        )
