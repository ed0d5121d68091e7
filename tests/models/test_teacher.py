from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.data import DataError
from models.distill import _save
from models.efficientad import Size, pdn
from models.grid import GRID
from models.teacher import Lite0Teacher, PdnTeacher, open_teacher


def saved(path: Path, size: Size, channels: int) -> Path:
    """A PDN with random weights, as `inspector distill` writes it."""
    torch.manual_seed(0)
    _save(pdn(size, channels), path, {"size": size})
    return path


@pytest.mark.parametrize("size", ["small", "medium"])
def test_a_distilled_teacher_is_frozen_and_gives_one_feature_per_grid_cell(tmp_path: Path, size: Size) -> None:
    teacher = open_teacher(str(saved(tmp_path / "teacher.safetensors", size, 8)))
    assert isinstance(teacher, PdnTeacher)
    assert teacher.channels == 8
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with torch.inference_mode():
        assert teacher(torch.rand(1, 3, 256, 256)).shape == (1, 8, GRID, GRID)


def test_a_distilled_teacher_is_the_network_that_was_saved(tmp_path: Path) -> None:
    teacher = PdnTeacher(saved(tmp_path / "teacher.safetensors", "small", 8))
    torch.manual_seed(0)
    expected = pdn("small", 8).state_dict()
    found = teacher.network.state_dict()
    assert all(torch.equal(found[name], expected[name].half().float()) for name in expected)


def test_a_missing_teacher_is_named_and_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.safetensors .*inspector distill makes one"):
        open_teacher(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        {"0.weight": torch.zeros(128, 3, 4, 4)},
        {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        {"0.weight": torch.tensor(1.0)},
        {},
    ],
    ids=["cut short", "of another network", "a number", "empty"],
)
def test_a_file_of_other_weights_is_refused(tmp_path: Path, content: dict[str, torch.Tensor]) -> None:
    save_file(content, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other\.safetensors"):
        PdnTeacher(tmp_path / "other.safetensors")


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"not a tensor in here")
    with pytest.raises(DataError, match=r"picture\.png"):
        PdnTeacher(tmp_path / "picture.png")


def test_lite0_is_frozen_and_gives_one_feature_per_grid_cell() -> None:
    teacher = open_teacher("lite0")
    assert isinstance(teacher, Lite0Teacher)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with torch.inference_mode():
        assert teacher(torch.rand(1, 3, 256, 256)).shape == (1, teacher.channels, GRID, GRID)


def test_the_teacher_that_ships_is_a_pdn_with_lite0s_channels() -> None:
    teacher = open_teacher("pdn")
    assert teacher.channels == Lite0Teacher.channels
    assert all(torch.isfinite(parameter).all() for parameter in teacher.parameters())
