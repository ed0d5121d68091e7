import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.efficientad import AutoEncoder, pdn
from models.grid import GRID, RECEPTIVE_FIELD, STRIDE, crop_for_pdn, pad_for_pdn
from models.resize import interpolation, network_image


@pytest.mark.parametrize(("top", "left"), [(0, 0), (7, 30), (GRID - 24, GRID - 24)])
def test_features_of_a_crop_equal_those_of_the_whole_image(top: int, left: int) -> None:
    torch.manual_seed(0)
    student = pdn("small", 8).double()
    image = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    with torch.inference_mode():
        whole = student(pad_for_pdn(image))[..., top : top + 24, left : left + 24]
        assert torch.allclose(student(crop_for_pdn(image, top, left, 24)), whole, atol=1e-12)


def test_pdn_ms_features_of_a_crop_equal_those_of_the_whole_image_too() -> None:
    torch.manual_seed(0)
    student, image = pdn("medium", 8), torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        whole = student(pad_for_pdn(image))[..., 40:64, 7:31]
        assert whole.std() > 1e-3
        assert torch.allclose(student(crop_for_pdn(image, 40, 7, 24)), whole, atol=1e-5)


def test_padding_gives_a_feature_to_every_grid_cell_and_sees_its_middle() -> None:
    """One bright pixel in the middle of a cell is where a field's mean lies, in the padded image as in the crop."""
    image = torch.zeros(1, 3, 256, 256)
    image[..., 4 * 20 + 1 : 4 * 20 + 3, 4 * 33 + 1 : 4 * 33 + 3] = 1
    fields = F.unfold(pad_for_pdn(image), RECEPTIVE_FIELD, stride=STRIDE).view(3, RECEPTIVE_FIELD, RECEPTIVE_FIELD, -1)
    assert fields.shape[-1] == GRID * GRID
    bright = fields[0, ..., 20 * GRID + 33].nonzero().float().mean(dim=0)
    assert (bright - RECEPTIVE_FIELD // 2).abs().max() <= 0.5


def test_pdn_s_is_the_reports_network() -> None:
    student = pdn("small", 384)
    assert student(torch.zeros(1, 3, 256, 256)).shape == (1, 384, 56, 56)
    assert student(torch.zeros(1, 3, 33, 33)).shape == (1, 384, 1, 1)


def test_auto_encoder_passes_everything_through_64_numbers() -> None:
    network = AutoEncoder(10)
    assert network.encoder(torch.zeros(2, 3, 256, 256)).shape == (2, 64, 1, 1)
    assert network(torch.zeros(2, 3, 256, 256)).shape == (2, 10, GRID, GRID)


def test_auto_encoder_has_norms_only_where_the_report_has_them_and_dropout_in_its_decoder() -> None:
    def count(network: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in network.modules())

    assert count(AutoEncoder(10), nn.InstanceNorm2d) == 5 + 6 + 1
    plain = AutoEncoder(10, instance_norm=False, dropout=0.2)
    assert count(plain, nn.InstanceNorm2d) == 0
    assert [module.p for module in plain.modules() if isinstance(module, nn.Dropout)] == [0.2] * 6
    assert not count(plain.encoder, nn.Dropout)


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
