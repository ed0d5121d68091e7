import pytest
import torch

from models.comgen.denoiser import Denoiser
from models.comgen.editing import Edited, Editor
from models.comgen.tokens import batch

from .disc_scenes import disc, picture

BEFORE = (disc(0, 0, 30, 16), disc(1, 0, 30, 46))
AFTER = (disc(0, 1, 30, 16),)
LEFT = torch.zeros(64, 64)
LEFT[:, :32] = 1


@pytest.fixture
def editor(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Editor:  # noqa: ARG001
    monkeypatch.setattr("models.comgen.denoiser.CHANNELS", (8, 16, 16))
    torch.manual_seed(0)
    return Editor(Denoiser(2, 2).eval().requires_grad_(requires_grad=False), steps=5)


def edit(editor: Editor, *, seed: int = 0, strength: float = 0.8, low_density: float = 0.0) -> Edited:
    return editor.edit(picture(*BEFORE), BEFORE, AFTER, LEFT, seed=seed, strength=strength, low_density=low_density)


def test_outside_of_the_region_nothing_changes(editor: Editor) -> None:
    edited, image = edit(editor, low_density=0.4), picture(*BEFORE)
    for drawn in (edited.generated, edited.reconstructed):
        assert torch.equal(drawn[:, :, 32:], image[:, :, 32:])
        assert not torch.allclose(drawn[:, :, :32], image[:, :, :32], atol=0.02)
        assert 0 <= drawn.min() <= drawn.max() <= 1


def test_where_no_change_is_allowed_there_is_none(editor: Editor) -> None:
    image = picture(*BEFORE)
    edited = editor.edit(image, BEFORE, AFTER, torch.zeros(64, 64), seed=0)
    assert torch.equal(edited.generated, image)


def test_without_an_edit_both_drawings_are_the_same(editor: Editor) -> None:
    image = picture(*BEFORE)
    same = editor.edit(image, BEFORE, BEFORE, LEFT, seed=0)
    assert torch.allclose(same.generated, same.reconstructed, atol=1e-5)
    other = edit(editor)
    assert not torch.allclose(other.generated, other.reconstructed, atol=1e-5)
    assert torch.allclose(other.reconstructed, same.reconstructed, atol=1e-5)  # which the edit does not reach


def test_the_seed_decides(editor: Editor) -> None:
    assert torch.equal(edit(editor).generated, edit(editor).generated)
    assert not torch.equal(edit(editor).generated, edit(editor, seed=1).generated)


def test_attention_has_a_map_for_every_token(editor: Editor) -> None:
    edited = edit(editor)
    assert edited.attention_before.shape == (2, 64, 64)
    assert edited.attention_after.shape == (1, 64, 64)
    assert edited.attention_before.min() > 0
    assert edited.attention_before.sum(dim=0).max() < 1  # the rest is the background's


def test_strength_is_how_much_is_drawn_again(editor: Editor) -> None:
    image = picture(*BEFORE)
    distances = [(edit(editor, strength=value).reconstructed - image).abs().mean() for value in (0.2, 1.0)]
    assert distances[0] < distances[1]


def test_low_density_steers_the_edited_drawing_alone(editor: Editor) -> None:
    plain, steered = edit(editor), edit(editor, low_density=0.4)
    assert torch.equal(plain.reconstructed, steered.reconstructed)
    assert not torch.equal(plain.generated, steered.generated)


def test_low_density_climbs_the_distance_to_what_is_found_again(editor: Editor) -> None:
    """The gradient is that of its objective: a step along it makes the distance larger, against it smaller."""
    torch.manual_seed(1)
    state, time, prompts = torch.randn(1, 3, 64, 64), editor.schedule.timesteps[1], batch([AFTER])
    step = editor._rarer(state, time, prompts, torch.Generator().manual_seed(3))
    noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(3))
    again = editor._clean(
        editor.schedule.add_noise(editor._clean(state, time, prompts), noise, time[None]), time, prompts
    )

    def distance(moved: torch.Tensor) -> float:
        return (editor._clean(moved, time, prompts) - again).square().mean().item()

    assert distance(state - step) < distance(state) < distance(state + step)
    assert step.abs().max() == pytest.approx(editor._variance(int(time)), rel=1e-4)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1])
def test_a_strength_out_of_range_is_an_error(editor: Editor, strength: float) -> None:
    with pytest.raises(ValueError, match="share of the schedule"):
        edit(editor, strength=strength)
