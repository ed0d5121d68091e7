"""What training and editing ask of a network that denoises pictures as a prompt says."""

from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from models.comgen.tokens import Prompts, Vocabulary

if TYPE_CHECKING:
    from diffusers import DDIMScheduler


class Network(Protocol):
    """The compact denoiser, or Stable Diffusion at full size: a picture is (3, S, S), its latent (C, s, s)."""

    vocabulary: Vocabulary
    schedule: "DDIMScheduler"

    @property
    def learned(self) -> nn.Module:
        """The part that a product's training changes."""

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) in 0..1 -> latents (B, C, s, s), which have a range of about -1..1."""

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (B, C, s, s) -> (B, 3, S, S) in 0..1."""

    def __call__(self, noisy: Tensor, time: Tensor, prompts: Prompts) -> tuple[Tensor, list[Tensor]]:
        """What the schedule's `prediction_type` says of noisy latents, and where the prompt's words are.

        Args:
            noisy: (B, C, s, s).
            time: (B,) int64.
            prompts: B of them, of T tokens.

        Returns:
            the prediction (B, C, s, s), and a map (B, 1 + T, h, h) a layer: the background's, then the tokens' shares
            of the attention at every place.
        """
