import numpy as np
import pytest
import torch

from models.data import DataError
from models.detector import Detector, Evidence
from models.grid import GRID
from models.heads import Components
from models.memory import patches_of
from models.method import HEADS, Method
from models.normals import ImageFormat
from models.train import region_words, require_shape

from .tiny import TinyTeacher

C = TinyTeacher.channels
PLAIN = Method(heads=HEADS[:-1])  # without CSDA
PARTS = Detector.PARTS[:-1]


@pytest.fixture
def detector(tiny_networks: None) -> Detector:  # noqa: ARG001
    torch.manual_seed(0)
    return Detector(PLAIN).eval()


def evidence(residuals: torch.Tensor, region: torch.Tensor) -> Evidence:
    """Of images whose mean features and components say nothing."""
    nothing = torch.zeros(2 * C), torch.zeros(Detector.CLUSTERINGS, Components.DIMENSION)
    return Evidence(residuals, *nothing, patches_of(residuals[2:], region))


def left_half(dtype: type, white: int) -> np.ndarray:
    region: np.ndarray = np.zeros((100, 200, 1), dtype)
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
    same = torch.zeros(3, C, GRID, GRID)

    def found(inspected: slice) -> tuple[torch.Tensor, torch.Tensor]:
        residuals = same.clone()
        residuals[..., inspected] = 100
        distances = detector.distances(residuals)
        return detector.anomaly_map(distances), detector.raw_parts(evidence(residuals, detector.region), distances)

    quiet, outside, inside = found(slice(0, 0)), found(slice(GRID // 2, GRID)), found(slice(GRID // 2 - 1, GRID))
    assert torch.equal(outside[0], quiet[0])
    assert torch.equal(outside[1], quiet[1])
    assert (inside[1][:3] > quiet[1][:3]).all()


def test_a_dim_16_bit_region_is_no_region(detector: Detector) -> None:
    with pytest.raises(DataError, match="empty"):
        detector.inspect_only(left_half(np.uint16, 300))


def test_a_region_of_another_size_than_the_images_is_refused() -> None:
    with pytest.raises(DataError, match="200 x 100"):
        require_shape(left_half(np.uint8, 255), ImageFormat(height=480, width=640, channels=3, bit_depth=8))


def test_distances_are_smoothed_over_inspected_cells_only(detector: Detector) -> None:
    ones = torch.ones(3, C, GRID, GRID)
    assert torch.allclose(detector.distances(ones), torch.ones(3, GRID, GRID))
    detector.inspect_only(left_half(np.uint8, 255))
    assert torch.allclose(detector.distances(ones)[..., : GRID // 2], torch.ones(3, GRID, GRID // 2))


@pytest.mark.usefixtures("tiny_networks")
def test_without_whitening_maps_are_plain_means_of_squares() -> None:
    residuals = torch.randn(3, C, GRID, GRID)
    plain = Detector(Method(whitening=False))
    distances = plain.distances(residuals)
    assert torch.allclose(distances, residuals.square().mean(dim=1))
    assert torch.equal(plain.at_place(distances), distances)


@pytest.mark.usefixtures("tiny_networks")
def test_maps_are_squashed_by_a_sigmoid_or_left_as_they_are() -> None:
    maps = 100 * torch.randn(3, GRID, GRID)
    low, high = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    squashed, plain = (Detector(Method(sigmoid=sigmoid)).scale(maps, low, high) for sigmoid in (True, False))
    assert torch.allclose(squashed, torch.sigmoid(plain))
    assert plain.max() > 1


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("heads", [(), ("global",), ("patch", "components"), ("puad",), ("memory", "csda")])
def test_only_the_heads_of_the_method_count(heads: tuple[str, ...]) -> None:
    method = Method(heads=heads)  # type: ignore[arg-type]
    assert Detector(method).counted_parts() == tuple(part for part in Detector.PARTS if part in {"maps", *heads})


def test_a_part_that_does_not_count_changes_nothing(detector: Detector) -> None:
    parts = torch.zeros(len(PARTS))
    detector.part_weight.copy_(torch.eye(len(PARTS))[0])
    assert detector.fuse(parts) == detector.fuse(parts + torch.tensor([0.0] + [9.0] * (len(PARTS) - 1)))


def test_one_sure_part_is_enough_and_doubts_add_up(detector: Detector) -> None:
    detector.part_weight.fill_(1.0)
    normal, sure, doubts = torch.zeros(3, len(PARTS))
    sure[1], doubts[1:3] = 10, 3
    single = normal.clone()
    single[1] = 3
    scores = detector.fuse(torch.stack([normal, single, doubts, sure])).tolist()
    assert scores == sorted(set(scores))
    assert scores[3] == pytest.approx(10, rel=0.05)


def test_students_map_and_teachers_count_once_as_they_read_the_same_features(detector: Detector) -> None:
    detector.part_weight.fill_(1.0)
    both, one, other = torch.zeros(3, len(PARTS))
    both[:2], one[0], other[1] = 3, 3, 3
    scores = detector.fuse(torch.stack([both, one, other]))
    assert scores.tolist() == pytest.approx([scores[0].item()] * 3)
    detector.part_weight[1] = 0
    assert detector.fuse(other) < detector.fuse(one) == detector.fuse(both)


@pytest.mark.usefixtures("tiny_networks")
def test_in_the_anomaly_map_csda_has_the_share_of_all_other_maps_together() -> None:
    detector = Detector(Method(sigmoid=False)).eval()
    shown = torch.zeros(len(detector.shown), 64, 64)
    shown[-1] = 10
    with torch.inference_mode():
        for weights in ([1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]):
            detector.map_weight.copy_(torch.tensor(weights).view(-1, 1, 1))
            assert torch.allclose(detector.anomaly_map(shown), torch.tensor(0.5))  # 0.1 * 10, and none of the others
        detector.map_weight.copy_(torch.tensor([1, 1, 1, 0]).view(-1, 1, 1))
        assert not detector.anomaly_map(shown).any()


def test_an_image_gets_a_map_a_score_and_its_parts(detector: Detector) -> None:
    image = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8)
    with torch.inference_mode():
        anomaly_map, score, parts = detector(image)
    assert (anomaly_map.shape, score.shape, parts.shape) == ((256, 256), (), (len(PARTS),))
    assert 0 <= anomaly_map.min() <= anomaly_map.max() <= 1


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("part", Detector.OPTIONAL)
def test_of_a_part_that_the_method_does_without_nothing_is_there(part: str) -> None:
    detector = Detector(Method(heads=tuple(head for head in HEADS if head != part)))
    assert detector.parts == tuple(other for other in Detector.PARTS if other != part)
    assert not [name for name in detector.state_dict() if name.startswith(part)]


@pytest.mark.usefixtures("tiny_networks")
def test_with_csda_all_else_is_as_without() -> None:
    torch.manual_seed(0)
    plain = Detector(PLAIN).eval()
    torch.manual_seed(0)
    compared = Detector().eval()
    image = torch.rand(1, 3, 256, 256)
    compared.map_weight[-1] = 0
    with torch.inference_mode():
        expected, found = plain.judge(image), compared.judge(image)
        assert compared.parts == (*PARTS, "csda")
        assert torch.equal(found[2][:-1], expected[2])
        assert torch.equal(found[0], expected[0])
        assert found[1] != expected[1]
        compared.part_weight[-1] = 0
        assert compared.judge(image)[1] == expected[1]


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("idle", [{"csda"}, {"memory"}, {"memory", "csda"}])
def test_parts_that_do_not_count_can_be_taken_out(idle: set[str]) -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    count = len(Detector.PARTS)
    detector.part_mean.copy_(torch.rand(count))
    detector.part_weight.copy_(torch.tensor([float(part not in idle) for part in Detector.PARTS]))
    detector.map_weight[-1] = "csda" not in idle
    assert detector.idle_parts() == idle
    smaller = detector.without(idle)
    image = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        (grid_map, score, parts), expected = smaller.judge(image), detector.judge(image)
    assert torch.equal(grid_map, expected[0])
    assert torch.allclose(score, expected[1])
    assert dict(zip(smaller.parts, parts.tolist(), strict=True)).items() <= (
        dict(zip(detector.parts, expected[2].tolist(), strict=True)).items()
    )
    assert [part is None for part in (smaller.memory, smaller.csda)] == ["memory" in idle, "csda" in idle]
    assert smaller.method == Method(heads=tuple(head for head in HEADS if head not in idle))
    assert not smaller.training


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("also", [(), ("csda",), ("memory", "csda")])
def test_without_the_student_all_else_is_as_with_it(also: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    for name in ("map_low", "shown_low", "place_mean", "residual_mean", "part_mean"):
        buffer = getattr(detector, name)
        buffer.copy_(torch.rand_like(buffer) - 1)
    idle = {*Detector.STUDENT, *also}
    detector.part_weight.copy_(torch.tensor([float(part not in idle) for part in Detector.PARTS]))
    detector.map_weight[:2] = 1e-9  # its share of the map: not 0, as its own score is the mean of its maps
    detector.map_weight[-1] = "csda" not in also
    assert detector.idle_parts() == idle
    smaller = detector.without(idle)
    image = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        (grid_map, score, parts), expected = smaller.judge(image), detector.judge(image)
    assert torch.allclose(grid_map, expected[0])
    assert torch.allclose(score, expected[1])
    assert dict(zip(smaller.parts, parts.tolist(), strict=True)) == pytest.approx(
        {part: value for part, value in zip(detector.parts, expected[2].tolist(), strict=True) if part not in idle}
    )
    assert not [name for name in smaller.state_dict() if name.startswith(("student", "autoencoder", "puad"))]
    assert (smaller.method.student, smaller.maps) == ("never", ("patch",))


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize(
    "method",
    [Method(student="always"), Method(heads=("global",)), Method(heads=())],
    ids=["always", "no map", "report"],
)
def test_a_student_that_has_to_stay_is_not_idle(method: Method) -> None:
    detector = Detector(method)
    detector.part_weight[[detector.parts.index(part) for part in Detector.STUDENT]] = 0
    assert not detector.idle_parts() & {*Detector.STUDENT}


@pytest.mark.usefixtures("tiny_networks")
def test_csdas_map_is_shown_as_far_as_it_has_weight() -> None:
    torch.manual_seed(0)
    detector = Detector().eval()
    image = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        shown = detector.judge(image)[0]
        detector.map_weight[-1] = 0
        assert not torch.equal(detector.judge(image)[0], shown)
        detector.map_weight[-1] = 1
        detector.map_weight[:3] = 0
        logits = detector.evidence(image).logits
        assert logits is not None
        assert torch.allclose(detector.judge(image)[0][0], torch.sigmoid(0.1 * logits))
