import pytest
import torch
from torch.nn import functional as F

from models.efficientad import AutoEncoder, PatchDescriptionNetwork, pad_for_student
from models.fit import crop_for_student
from models.resize import interpolation, network_image
from models.teacher import GRID, Lite0Teacher


@pytest.mark.parametrize(("top", "left"), [(0, 0), (7, 30), (GRID - 24, GRID - 24)])
def test_features_of_a_crop_equal_those_of_the_whole_image(top: int, left: int) -> None:
    torch.manual_seed(0)
    student = PatchDescriptionNetwork(8).double()
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    whole = student(pad_for_student(image))[..., top : top + 24, left : left + 24]
    assert torch.allclose(student(crop_for_student(image, top, left, 24)), whole, atol=1e-12)


def test_pdn_s_is_the_reports_network() -> None:
    student = PatchDescriptionNetwork(384)
    assert student(torch.zeros(1, 3, 256, 256)).shape == (1, 384, 56, 56)
    assert student(torch.zeros(1, 3, 33, 33)).shape == (1, 384, 1, 1)


def test_auto_encoder_passes_everything_through_64_numbers() -> None:
    network = AutoEncoder(10)
    assert network.encoder(torch.zeros(2, 3, 256, 256)).shape == (2, 64, 1, 1)
    assert network(torch.zeros(2, 3, 256, 256)).shape == (2, 10, GRID, GRID)


def test_teacher_is_frozen_and_gives_one_feature_per_grid_cell() -> None:
    teacher = Lite0Teacher()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with torch.inference_mode():
        assert teacher(torch.rand(1, 3, 256, 256)).shape == (1, Lite0Teacher.CHANNELS, GRID, GRID)


@pytest.mark.parametrize(("height", "width"), [(1024, 1280), (200, 100), (256, 256), (97, 513)])
def test_resize_is_torchs_antialiased_bilinear(height: int, width: int) -> None:
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    planes = image.permute(2, 0, 1)[None].float() / 255
    expected = F.interpolate(planes, size=(256, 256), mode="bilinear", antialias=True, align_corners=False)
    assert torch.allclose(network_image(image), expected, atol=1e-5)


def test_grey_images_become_three_equal_channels() -> None:
    square = network_image(torch.randint(0, 256, (40, 60, 1), dtype=torch.uint8))
    assert square.shape == (1, 3, 256, 256)
    assert torch.equal(square[:, 0], square[:, 2])


def test_interpolation_weights_sum_to_one() -> None:
    assert torch.allclose(interpolation(1000, 256).sum(dim=1), torch.ones(256))
