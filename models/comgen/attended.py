"""Whether a denoiser has understood its tokens: where it looks, and what it draws when the prompt is another one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

import torch
from torch import Tensor

from models.comgen.attention import mean_map
from models.comgen.editing import Editor
from models.comgen.lessons import Question
from models.comgen.network import Network
from models.comgen.scene import SIDE, Scene, Token
from models.comgen.tokens import batch
from models.progress import Progress

LOOKED_AT = 0.3  # of the schedule: parts can be seen through this much noise, though not all of their edges


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A question and the denoiser's answer."""

    question: Question
    picture: Tensor  # (3, 64, 64) in 0..1, of the prompt with the change
    unchanged: Tensor  # of the prompt as it was, from the same noise

    @property
    def way(self) -> float:
        """How far it gets from the good picture to the one of real pixels, where they differ: 1 is there, 0 nowhere."""
        question = self.question
        wanted, was = question.after.image, question.before.image
        return 1 - _within(self.picture - wanted, question.masks) / _within(was - wanted, question.masks)

    @property
    def inside(self) -> float:
        """Mean change that the edit makes to a pixel within the masks, of 255."""
        return 255 * _within(self.picture - self.unchanged, self.question.masks)

    @property
    def outside(self) -> float:
        """And without."""
        return 255 * _within(self.picture - self.unchanged, 1 - self.question.masks)


@dataclass(frozen=True, slots=True)
class Understanding:
    """How well tokens are tied to what they name."""

    told_where: float  # IoU of a component's attention with it, mean over components
    told_what: float  # the same, from prompts without boxes
    inside: float  # mean change of an edit within its masks, of 255
    outside: float  # and without
    way: dict[str, float]  # by change: how far drawings get to what real pixels show


def draw(network: Network, questions: Sequence[Question], *, seed: int, progress: Progress) -> list[Drawn]:
    """Draw each question's change in its whole picture; nothing holds the rest in place."""
    editor, drawn = Editor(network), []
    everywhere = torch.ones(SIDE, SIDE)
    for done, question in enumerate(questions, start=1):
        edited = editor.edit(
            question.before.image, question.before.tokens, question.after.tokens, everywhere, seed=seed + done
        )
        drawn.append(Drawn(question, edited.generated, edited.reconstructed))
        progress("drawing", done, len(questions))
    return drawn


def understanding(network: Network, scenes: Sequence[Scene], drawn: Sequence[Drawn], *, seed: int) -> Understanding:
    """Judge a denoiser by scenes and questions that it has not learned from.

    Raises:
        ValueError: there is no scene or no question.
    """
    if not scenes or not drawn:
        raise ValueError("a denoiser is judged by one scene and one question at least")
    changes = sorted({one.question.change for one in drawn})
    return Understanding(
        told_where=mean(attention_iou(network, scenes, told_where=True, seed=seed).values()),
        told_what=mean(attention_iou(network, scenes, told_where=False, seed=seed).values()),
        inside=mean(one.inside for one in drawn),
        outside=mean(one.outside for one in drawn),
        way={change: mean(one.way for one in drawn if one.question.change == change) for change in changes},
    )


def attention_iou(network: Network, scenes: Sequence[Scene], *, told_where: bool, seed: int) -> dict[int, float]:
    """Intersection over union, over all scenes, of each component with the places that look at it most."""
    common: Counter[int] = Counter()
    either: Counter[int] = Counter()
    for scene in scenes:
        components = sorted({token.component for token in scene.tokens})
        looked = attended(network, scene, told_where=told_where, seed=seed)
        for component in components:
            true = _together(scene.tokens, component) > 0.5
            common[component] += int((true & (looked == component)).sum())
            either[component] += int((true | (looked == component)).sum())
    return {component: common[component] / max(either[component], 1) for component in sorted(either)}


@torch.no_grad()
def attended(network: Network, scene: Scene, *, told_where: bool, seed: int) -> Tensor:
    """The component that most of the attention goes to at each place, -1 for the background, (64, 64) int64."""
    prompts = batch([scene.tokens])
    prompts = prompts if told_where else replace(prompts, boxed=torch.zeros_like(prompts.boxed))
    latent = network.encode(scene.image[None])
    time = torch.tensor([round(LOOKED_AT * network.schedule.config.num_train_timesteps)])
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    _, maps = network(network.schedule.add_noise(latent, noise, time), time, prompts)
    shares = mean_map(maps, SIDE)[0]
    components = sorted({token.component for token in scene.tokens})
    owned = [(prompts.component[0] == one) & prompts.present[0] for one in components]
    summed = torch.stack([shares[0], *(shares[1:][tokens].sum(dim=0) for tokens in owned)])
    return torch.tensor([-1, *components])[summed.argmax(dim=0)]


def _together(tokens: Sequence[Token], component: int) -> Tensor:
    return torch.stack([token.mask for token in tokens if token.component == component]).sum(dim=0)


def _within(difference: Tensor, weight: Tensor) -> float:
    """Mean magnitude where the weight is, (3, 64, 64) and (64, 64)."""
    return float((difference.abs().mean(dim=0) * weight).sum() / weight.sum().clamp(min=1e-6))
