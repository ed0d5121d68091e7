from collections.abc import Iterator

import pytest
import torch

from models.comgen.components import Components
from models.comgen.lessons import Lessons, prepare
from models.normals import Normals
from models.progress import silent


@pytest.fixture(scope="module")
def lessons(normals: Normals, components: Components) -> Iterator[Lessons]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.comgen.lessons.ERASED", 12)
        yield prepare(normals, components, questions=8, seed=0, progress=silent)


def test_a_scene_has_the_discs_and_the_plate(lessons: Lessons) -> None:
    assert (len(lessons.good), len(lessons.held_out)) == (16, 10)
    assert {len(scene.tokens) for scene in (*lessons.good, *lessons.held_out)} == {3}
    assert {token.mode for scene in lessons.good for token in scene.tokens} == {0, 1}


def test_what_is_erased_is_in_neither_picture_nor_prompt(lessons: Lessons) -> None:
    assert len(lessons.erased) > 8
    for scene in lessons.erased:
        ground = scene.image.flatten(1).median(dim=1).values[:, None, None]
        shown = (scene.image - ground).abs().amax(dim=0) > 0.1
        named = torch.stack([token.mask for token in scene.tokens]).sum(dim=0)
        assert len(scene.tokens) < 3
        assert shown[named > 0.9].float().mean() > 0.9
        assert shown[named == 0].float().mean() < 0.02


def test_a_question_is_a_good_picture_and_its_change_of_real_pixels(lessons: Lessons) -> None:
    assert {one.change for one in lessons.questions} == {"drop", "move"}
    for one in lessons.questions:
        assert any(one.before is scene for scene in lessons.held_out)
        differs = (one.before.image - one.after.image).abs().amax(dim=0) > 0.1
        assert differs[one.masks > 0.9].float().mean() > 0.5
        assert differs[one.masks == 0].float().mean() < 0.02
        assert len(one.after.tokens) == len(one.before.tokens) - (one.change == "drop")


def test_a_moved_part_is_named_where_it_is(lessons: Lessons) -> None:
    for one in (each for each in lessons.questions if each.change == "move"):
        boxes = {token.box for token in one.before.tokens}
        (moved,) = [token for token in one.after.tokens if token.box not in boxes]
        assert one.masks[moved.mask > 0.9].mean() > 0.7
