import numpy as np
import pytest
import torch

from models.data import DataError
from models.detector import Detector, Evidence
from models.normals import ImageFormat
from models.teacher import GRID
from models.train import region_words, require_shape


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector().eval()


def left_half(dtype: type, white: int) -> np.ndarray:
    region = np.zeros((100, 200, 1), dtype)
    region[:, :100] = white
    return region


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_only_the_region_of_interest_is_inspected(detector: Detector, dtype: type, white: int) -> None:
    detector.inspect_only(left_half(dtype, white))
    assert detector.region[..., : GRID // 2].all()
    assert not detector.region[..., GRID // 2 :].any()
    assert "50% of the image is inspected" in region_words(detector)[0]


def test_what_differs_outside_the_region_changes_neither_map_nor_its_score(detector: Detector) -> None:
    detector.inspect_only(left_half(np.uint8, 255))
    quiet = Evidence(torch.zeros(2, 152, GRID, GRID), torch.zeros(detector.EMBEDDING))
    loud = Evidence(quiet.residuals.clone(), quiet.embedding)
    loud.residuals[..., GRID // 2 :] = 100
    assert torch.equal(detector.combined_map(quiet), detector.combined_map(loud))
    loud.residuals[..., GRID // 2 - 1] = 100
    assert detector.raw_parts(loud)[0] > detector.raw_parts(quiet)[0]


def test_a_dim_16_bit_region_is_no_region(detector: Detector) -> None:
    with pytest.raises(DataError, match="empty"):
        detector.inspect_only(left_half(np.uint16, 300))


def test_a_region_of_another_size_than_the_images_is_refused() -> None:
    with pytest.raises(DataError, match="200 x 100"):
        require_shape(left_half(np.uint8, 255), ImageFormat(height=480, width=640, channels=3, bit_depth=8))


def test_maps_are_smoothed_over_inspected_cells_only(detector: Detector) -> None:
    evidence = Evidence(torch.ones(2, 152, GRID, GRID), torch.zeros(detector.EMBEDDING))
    assert torch.allclose(detector.maps(evidence), torch.ones(2, GRID, GRID))
