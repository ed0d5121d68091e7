"""Draws a picture again as an edited prompt says (ComGEN's prompt modification and low-density sampling)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.comgen.attention import mean_map
from models.comgen.network import Network
from models.comgen.scene import SIDE, Token
from models.comgen.tokens import Prompts, batch

STEPS = 20  # over the whole schedule; an edit takes its strength's share of them
GUIDANCE = 2.0
RARE_UNTIL = 0.4  # of the schedule's times: below, details are drawn and no longer steered
RARE_EVERY = 2  # steps


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """A picture drawn twice from the same noise; where they differ is the edit."""

    generated: Tensor  # (3, S, S) in 0..1, of the edited tokens
    reconstructed: Tensor  # (3, S, S) in 0..1, of the unedited tokens
    attention_before: Tensor  # (unedited tokens, 64, 64) share of the attention, while the second was drawn
    attention_after: Tensor  # (edited tokens, 64, 64), while the first was drawn


class Editor:
    """Edits pictures with a network that was trained on the product; deterministic DDIM (Song et al. 2021)."""

    def __init__(self, network: Network, *, steps: int = STEPS, guidance: float = GUIDANCE) -> None:
        """Use a network as it is.

        Args:
            network: compact, or of full size.
            steps: over the whole schedule.
            guidance: how much further from the unedited prompt's prediction than the edited prompt's own.
        """
        self.network = network
        self.schedule = network.schedule
        self.guidance = guidance
        self.schedule.set_timesteps(steps)

    @torch.no_grad()
    def edit(
        self,
        image: Tensor,
        before: Sequence[Token],
        after: Sequence[Token],
        region: Tensor,
        *,
        seed: int,
        strength: float = 0.8,
        low_density: float = 0.0,
    ) -> Edited:
        """Noise the picture (SDEdit, Meng et al. 2022) and draw it again, from the edited and the unedited tokens.

        Outside of the region both are the picture itself: there the noised original takes their place at every step.

        Args:
            image: (3, S, S) in 0..1.
            before: what is in it.
            after: what shall be in it.
            region: (64, 64) in 0..1, where a change is allowed.
            seed: of the noise.
            strength: share of the schedule that is walked again, in 0..1; 1 starts from noise alone.
            low_density: 0.2 to 0.4 steer what is generated towards what is rare among the good; 0 does not.

        Raises:
            IndexError: a token is not in the vocabulary.
            ValueError: the strength is out of range.
        """
        if not 0 < strength <= 1:
            raise ValueError(f"strength is a share of the schedule, above 0 and at most 1, not {strength}")
        generator = torch.Generator().manual_seed(seed)
        original = self.network.encode(image[None])
        noise = torch.randn(original.shape, generator=generator)
        allowed = resize(region[None, None], original.shape[-1])
        prompts = batch([after, before, before])
        times = self.schedule.timesteps[-max(1, round(strength * len(self.schedule.timesteps))) :]
        states = self.schedule.add_noise(original, noise, times[:1]).repeat(2, 1, 1, 1)
        seen = []
        for number, time in enumerate(times):
            predicted, maps = self._predict(states, time, prompts)
            drawn = self.schedule.step(predicted, int(time), states, use_clipped_model_output=True).prev_sample
            if self._steers(low_density, number, int(time)):
                drawn[:1] += low_density * self._rarer(states[:1], time, prompts[:1], generator)
            last = number == len(times) - 1
            around = original if last else self.schedule.add_noise(original, noise, times[number + 1 : number + 2])
            states = around + allowed * (drawn - around)
            seen.append(maps)
        generated, reconstructed = image + resize(region[None, None], image.shape[-1]) * (
            self.network.decode(states) - image
        )
        attention = torch.stack(seen).mean(dim=0)[:, 1:]
        return Edited(
            generated,
            reconstructed,
            attention_before=attention[1, : len(before)],
            attention_after=attention[0, : len(after)],
        )

    def _predict(self, states: Tensor, time: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """For the generated and the reconstructed state: prediction (2, C, s, s) and attention (2, 1 + T, 64, 64).

        Guidance (Ho & Salimans 2022), with the unedited prompt where theirs has none: what the two prompts agree on
        is not exaggerated, and without an edit there is none.
        """
        together = torch.cat([states[:1], states[:1], states[1:]])
        predicted, maps = self.network(together, time.expand(3), prompts)
        edited, unedited, reconstructed = predicted
        guided = edited + self.guidance * (edited - unedited)
        return torch.stack([guided, reconstructed]), mean_map(maps, SIDE)[[0, 2]]

    def _steers(self, low_density: float, number: int, time: int) -> bool:
        early = time > RARE_UNTIL * self.schedule.config.num_train_timesteps
        return low_density > 0 and early and number % RARE_EVERY == 0

    def _rarer(self, state: Tensor, time: Tensor, prompts: Prompts, generator: torch.Generator) -> Tensor:
        """Towards low density (self-guided minority sampling, Um & Ye 2024), (1, C, s, s).

        What is common is found again after it was noised anew; what is rare is not. So: up the gradient of the distance
        between x0(x_t) and x0 of it re-noised, over its largest element, times the posterior variance.
        """
        with torch.enable_grad():
            state = state.detach().requires_grad_()
            clean = self._clean(state, time, prompts)
            noise = torch.randn(clean.shape, generator=generator)
            with torch.no_grad():
                again = self._clean(self.schedule.add_noise(clean, noise, time[None]), time, prompts)
            (gradient,) = torch.autograd.grad((clean - again).square().mean(), state)
        return self._variance(int(time)) * gradient / gradient.abs().max().clamp(min=1e-12)

    def _clean(self, state: Tensor, time: Tensor, prompts: Prompts) -> Tensor:
        """The picture that the network sees behind the noise, x0(x_t), (1, C, s, s)."""
        predicted, _ = self.network(state, time.expand(1), prompts)
        clean: Tensor = self.schedule.step(predicted, int(time), state).pred_original_sample
        return clean

    def _variance(self, time: int) -> float:
        """Posterior variance of one step (Ho et al. 2020, Eq 7), for the strides that are walked."""
        alphas = self.schedule.alphas_cumprod
        earlier = time - self.schedule.config.num_train_timesteps // len(self.schedule.timesteps)
        now, then = float(alphas[time]), float(alphas[earlier]) if earlier >= 0 else 1.0
        return (1 - then) / (1 - now) * (1 - now / then)


def resize(region: Tensor, side: int) -> Tensor:
    """(1, 1, 64, 64) -> (1, 1, side, side)."""
    return F.interpolate(region, size=(side, side), mode="bilinear", align_corners=False)
