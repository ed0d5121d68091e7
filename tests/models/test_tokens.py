from dataclasses import replace

import pytest
import torch

from models.comgen.scene import MOST_TOKENS, Scene
from models.comgen.tokens import Vocabulary, batch

from .disc_scenes import disc


def vocabulary() -> Vocabulary:
    torch.manual_seed(0)
    return Vocabulary(components=2, modes=2, width=16)


def test_a_prompt_is_padded_and_says_which_places_are_empty() -> None:
    words, there = vocabulary()(batch([[disc(0, 1, 30, 16), disc(1, 0, 30, 46)], []]))
    assert words.shape == (2, 1 + MOST_TOKENS, 16)
    assert there.sum(dim=1).tolist() == [3, 1]  # the background is always there
    assert there[0, :3].all()


def test_a_word_depends_on_component_mode_and_place() -> None:
    tokens = [disc(0, 0, 30, 16), disc(0, 1, 30, 16), disc(1, 0, 30, 16), disc(0, 0, 31, 16)]
    words, _ = vocabulary()(batch([tokens]))
    assert torch.pdist(words[0, 1:5]).min() > 0.01


def test_without_its_box_a_word_does_not_depend_on_the_place() -> None:
    prompts = batch([[disc(0, 0, 30, 16), disc(0, 0, 50, 40)]])
    unplaced = replace(prompts, boxed=torch.zeros_like(prompts.boxed))
    words, _ = vocabulary()(unplaced)
    assert torch.equal(words[0, 1], words[0, 2])


def test_tokens_that_say_the_same_share_their_masks() -> None:
    left, right, other = disc(0, 0, 30, 16), disc(0, 0, 30, 46), disc(1, 0, 50, 30)
    prompts = batch([[left, right, other]])
    assert torch.equal(prompts.shared_masks()[0, :3], prompts.mask[0, :3])
    unplaced = replace(prompts, boxed=torch.zeros_like(prompts.boxed)).shared_masks()[0]
    assert torch.equal(unplaced[0], (left.mask + right.mask) / 2)
    assert torch.equal(unplaced[1], unplaced[0])
    assert torch.equal(unplaced[2], other.mask)
    assert unplaced[3:].sum() == 0


def test_contrast_pulls_adjectives_to_their_component_and_components_apart() -> None:
    words = vocabulary()
    before = words.contrast()
    optimiser = torch.optim.SGD(words.parameters(), lr=1.0)
    for _ in range(20):
        optimiser.zero_grad()
        words.contrast().backward()
        optimiser.step()
    assert words.contrast() < 0.5 * before
    names = words.component.weight
    assert torch.cosine_similarity(names[0], names[1], dim=0) < 0


@pytest.mark.parametrize(
    ("component", "mode", "name"), [(2, 0, "component"), (-1, 0, "component"), (0, 2, "mode"), (1, -1, "mode")]
)
def test_a_token_outside_the_vocabulary_is_an_error(component: int, mode: int, name: str) -> None:
    with pytest.raises(IndexError, match=f"a {name} of the prompt is not among the vocabulary's 2"):
        vocabulary()(batch([[replace(disc(0, 0, 30, 16), component=component, mode=mode)]]))


def test_a_prompt_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most 16 tokens, not 17"):
        Scene(torch.zeros(3, 64, 64), (disc(0, 0, 30, 16),) * 17)
