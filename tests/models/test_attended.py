from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.comgen.attended import Drawn, attended, attention_iou, draw, understanding
from models.comgen.denoiser import Denoiser
from models.comgen.lessons import Question
from models.comgen.scene import Scene
from models.comgen.sheet import draw_tokens
from models.comgen.tokens import Prompts
from models.progress import silent

from .disc_scenes import disc, picture

BOTH = (disc(0, 0, 30, 16), disc(1, 0, 30, 46))
BEFORE, AFTER = Scene(picture(*BOTH), BOTH), Scene(picture(BOTH[0]), BOTH[:1])
DROPPED = Question("drop", BEFORE, AFTER, BOTH[1].mask)


@pytest.fixture
def denoiser(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Denoiser:  # noqa: ARG001
    monkeypatch.setattr("models.comgen.denoiser.CHANNELS", (8, 16, 16))
    torch.manual_seed(0)
    return Denoiser(2, 2).eval().requires_grad_(requires_grad=False)


def looking(monkeypatch: pytest.MonkeyPatch, *, right: bool) -> None:
    """The network looks where its tokens are, or at the other one."""

    def forward(_: Denoiser, noisy: Tensor, __: Tensor, prompts: Prompts) -> tuple[Tensor, list[Tensor]]:
        masks = prompts.mask if right else prompts.mask[:, [1, 0, *range(2, 16)]]
        return torch.zeros_like(noisy), [torch.cat([1 - masks.sum(dim=1, keepdim=True), masks], dim=1)]

    monkeypatch.setattr(Denoiser, "forward", forward)


def test_attention_where_the_components_are_is_perfect_and_elsewhere_worthless(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for right in (True, False):
        looking(monkeypatch, right=right)
        ious = attention_iou(denoiser, [BEFORE], told_where=True, seed=0)
        assert ious == {0: float(right), 1: float(right)}
    looking(monkeypatch, right=True)
    looked = attended(denoiser, BEFORE, told_where=True, seed=0)
    assert (looked[30, 16], looked[30, 46], looked[0, 0]) == (0, 1, -1)


def test_without_boxes_the_prompt_says_only_what_there_is(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    forward = Denoiser.forward
    monkeypatch.setattr(Denoiser, "forward", lambda *given: told.append(given[3].boxed.any()) or forward(*given))
    attended(denoiser, BEFORE, told_where=False, seed=0)
    attended(denoiser, BEFORE, told_where=True, seed=0)
    assert [bool(one) for one in told] == [False, True]


def test_the_way_is_how_far_a_drawing_gets_to_the_real_pixels() -> None:
    half = (BEFORE.image + AFTER.image) / 2
    drawings = [Drawn(DROPPED, image, BEFORE.image) for image in (BEFORE.image, half, AFTER.image)]
    assert [one.way for one in drawings] == pytest.approx([0, 0.5, 1], abs=1e-5)
    assert [one.inside > 1 for one in drawings] == [False, True, True]
    assert [one.outside for one in drawings] == pytest.approx([0, 0, 0], abs=1e-4)


def test_drawings_are_judged_and_shown(denoiser: Denoiser, tmp_path: Path) -> None:
    drawn = draw(denoiser, [DROPPED], seed=0, progress=silent)
    judged = understanding(denoiser, [BEFORE], drawn, seed=0)
    assert judged.way.keys() == {"drop"}
    assert judged.way["drop"] == drawn[0].way < 1
    assert 0 <= judged.told_where <= 1
    draw_tokens(denoiser, drawn, 2, tmp_path / "tokens.png", seed=0)
    assert (tmp_path / "tokens.png").stat().st_size > 5000


def test_without_scenes_there_is_nothing_to_judge(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="one scene and one question"):
        understanding(denoiser, [], [], seed=0)
