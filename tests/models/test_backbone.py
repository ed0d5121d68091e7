from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models import backbone
from models.data import DataError
from models.grid import GRID

SHALLOW = (1, 1, 1)  # blocks a layer, where WideResNet-101 has up to 23: the same shapes, a fraction of the time


def shallow_state() -> dict[str, torch.Tensor]:
    """Weights by the names that torchvision and timm give them, with a last layer that is not used."""
    torch.manual_seed(0)
    shapes = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64), "layer4.0.conv1.weight": (4,), "fc.weight": (2, 2)}
    inputs = 64
    for layer, planes in (("layer1.0", 64), ("layer2.0", 128), ("layer3.0", 256)):
        width, outputs = 2 * planes, 4 * planes
        shapes |= {
            f"{layer}.conv1.weight": (width, inputs, 1, 1),
            f"{layer}.conv2.weight": (width, width, 3, 3),
            f"{layer}.conv3.weight": (outputs, width, 1, 1),
            f"{layer}.downsample.0.weight": (outputs, inputs, 1, 1),
            **_norm(f"{layer}.bn1", width), **_norm(f"{layer}.bn2", width), **_norm(f"{layer}.bn3", outputs),
            **_norm(f"{layer}.downsample.1", outputs),
        }  # fmt: skip
        inputs = outputs
    return {
        name: torch.tensor(0) if name.endswith("tracked") else 0.1 * torch.rand(shape) for name, shape in shapes.items()
    }


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    per_channel = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in per_channel} | {f"{name}.num_batches_tracked": ()}


@pytest.fixture
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "BLOCKS", SHALLOW)


def write_torch(state: dict[str, torch.Tensor], folder: Path) -> Path:
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


def write_safetensors(state: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_weights_are_read_as_torch_and_as_safetensors_files(
    tmp_path: Path, write: Callable[[dict[str, torch.Tensor], Path], Path]
) -> None:
    state = shallow_state()
    network = backbone.WideResNet101(write(state, tmp_path))
    assert torch.equal(network.layer3[0].conv2.weight, state["layer3.0.conv2.weight"])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 512, 512)).shape == (1, 384, GRID, GRID)


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("write", [write_torch, write_safetensors])
@pytest.mark.parametrize("state", [{}, {"conv1.weight": torch.zeros(3)}], ids=["empty", "of another network"])
def test_weights_of_another_network_are_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], write: Callable[[dict[str, torch.Tensor], Path], Path]
) -> None:
    path = write(state, tmp_path)
    with pytest.raises(DataError, match=rf"{path.name} does not hold the weights of wide_resnet101_2"):
        backbone.WideResNet101(path)


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_what_holds_no_weights_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        backbone.WideResNet101(tmp_path / name)


@pytest.mark.usefixtures("_shallow")
def test_a_file_of_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"a picture, perhaps")
    with pytest.raises(DataError, match=r"weights\.pth"):
        backbone.WideResNet101(tmp_path / "weights.pth")


@pytest.mark.usefixtures("_shallow")
def test_a_list_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"weights\.pth"):
        backbone.WideResNet101(tmp_path / "weights.pth")
