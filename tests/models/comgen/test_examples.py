from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.comgen import examples as module
from models.comgen.components import Components
from models.comgen.examples import Imagined, imagine
from models.data import DataError
from models.fakes import GENERATED
from models.normals import Normals
from models.progress import silent

COUNT = 48


@pytest.fixture(autouse=True)
def _components_are_found_once(components: Components, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Components", lambda *_, **__: components)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "anomalies.pt"


@pytest.fixture
def imagined(normals: Normals, store: Path) -> Imagined:
    return imagine("comgen", normals, COUNT, judges=7, seed=0, store=store, progress=silent)


def changed(image: Tensor, source: Tensor) -> Tensor:
    return (image - source)[0].abs().amax(dim=0) > 0.05


def test_half_of_what_is_learned_from_is_wrongly_assembled_and_half_is_damaged(
    imagined: Imagined, normals: Normals
) -> None:
    assert len(imagined.learn) == COUNT
    assert not imagined.words
    for index in range(COUNT // 2):  # damage may turn out invisible, and is discarded when it is looked at
        item = imagined.learn[index]
        differs = changed(item.image, normals.train[item.source])
        if item.mask.any():
            assert differs[item.mask > 0.5].float().mean() > 0.2
        else:
            assert differs.float().mean() < 0.02  # an edit with which nothing is wrong
    edited, damaged = range(COUNT // 2), range(COUNT // 2, COUNT)
    assert 0 < sum(not imagined.learn[index].mask.any() for index in edited) < COUNT // 4
    assert sum(bool(imagined.learn[index].mask.any()) for index in damaged) > COUNT // 4


def test_what_judges_is_made_of_images_that_nothing_is_learned_from(imagined: Imagined, normals: Normals) -> None:
    assert len(imagined.judge) >= 5
    for fake in imagined.judge:
        least = [
            min(changed(fake.image, image).float().mean() for image in of) for of in (normals.validation, normals.train)
        ]
        assert fake.kind == GENERATED
        assert fake.mask.any()
        assert least[0] < least[1]


def test_what_was_made_is_kept_and_taken_again_for_the_same_images_only(
    imagined: Imagined, normals: Normals, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(module, "Components", never)
    again = imagine("comgen", normals, COUNT, judges=7, seed=0, store=store, progress=silent)
    assert all(torch.equal(again.learn[index].image, imagined.learn[index].image) for index in range(COUNT))
    assert all(torch.equal(one.mask, other.mask) for one, other in zip(again.judge, imagined.judge, strict=True))
    with pytest.raises(AssertionError, match="made again"):
        imagine("comgen", replace(normals, fingerprint="other"), COUNT, judges=7, seed=0, store=store, progress=silent)


def test_a_damaged_store_is_named(normals: Normals, tmp_path: Path) -> None:
    (tmp_path / "anomalies.pt").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"anomalies\.pt is damaged: remove it"):
        imagine("comgen", normals, COUNT, judges=7, seed=0, store=tmp_path / "anomalies.pt", progress=silent)


def test_without_components_there_is_damage_alone_and_a_word(normals: Normals, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        components = ()

        def find(self, _image: Tensor) -> list[object]:
            return []

    monkeypatch.setattr(module, "Components", lambda *_, **__: Nothing())
    found = imagine("comgen", normals, COUNT, judges=7, seed=0, store=None, progress=silent)
    assert len(found.learn) == COUNT
    assert not found.judge
    assert "hardly any part recurs" in found.words[0]
    assert np.mean([bool(found.learn[index].mask.any()) for index in range(COUNT)]) > 0.6
