import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from models.ground_truth import Saturation, connected_regions
from models.metrics import Region, auroc, count_false_positives, levels_of, overlap_area

Boxes = list[tuple[int, int, int, int, int]]

# The golden vector: noise of PCG64(20261122), +1.5 in every box (value, y0, x0, y1, x1).
GOLDEN: list[tuple[str, Boxes]] = [
    ("good", []),
    ("good", []),
    ("good", []),
    ("logical", [(255, 8, 10, 24, 30)]),
    ("logical", [(253, 40, 40, 56, 60), (255, 2, 2, 8, 8)]),
    ("structural", [(254, 30, 5, 33, 50)]),
    ("structural", [(254, 50, 50, 60, 52), (254, 10, 40, 20, 44)]),
]
SATURATIONS = {
    255: Saturation(defect_name="a", pixel_value=255, saturation_threshold=60, relative_saturation=False),
    254: Saturation(defect_name="b", pixel_value=254, saturation_threshold=1.0, relative_saturation=True),
    253: Saturation(defect_name="c", pixel_value=253, saturation_threshold=0.5, relative_saturation=True),
}
LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
EXACT = {
    "logical": (0.384989, 0.599183, 0.716887, 0.861263, 0.953565),
    "structural": (0.128786, 0.322081, 0.445979, 0.668147, 0.868042),
}


def golden_set(kind: str) -> tuple[list[npt.NDArray[np.float32]], list[Region]]:
    """The defect-free scores of good and of that kind's images, and that kind's defects."""
    rng = np.random.Generator(np.random.PCG64(20261122))
    free, regions = [], []
    for name, boxes in GOLDEN:
        scores = rng.normal(size=(64, 64)).astype(np.float32)
        for _, top, left, bottom, right in boxes:
            scores[top:bottom, left:right] += np.float32(1.5)
        if name not in {"good", kind}:
            continue
        clean = np.ones((64, 64), bool)
        for value, top, left, bottom, right in boxes:
            clean[top:bottom, left:right] = False
            inside = scores[top:bottom, left:right].ravel()
            regions.append(Region(inside, SATURATIONS[value].pixels(inside.size)))
        free.append(scores[clean])
    return free, regions


def area(free: Sequence[npt.NDArray[np.float32]], regions: list[Region], limit: float) -> float:
    result = overlap_area(regions, count_false_positives(levels_of(regions), free), limit)
    assert result is not None
    return result


@pytest.mark.parametrize("kind", ["logical", "structural"])
@pytest.mark.parametrize("index", range(5))
def test_au_spro_matches_the_golden_vector(kind: str, index: int) -> None:
    free, regions = golden_set(kind)
    assert area(free, regions, LIMITS[index]) == pytest.approx(EXACT[kind][index], abs=1e-6)


def test_counts_of_two_groups_add_up() -> None:
    free, regions = golden_set("logical")
    levels = levels_of(regions)
    added = count_false_positives(levels, free[:2]) + count_false_positives(levels, free[2:])
    assert overlap_area(regions, added, 0.05) == pytest.approx(area(free, regions, 0.05), abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_auroc_agrees_with_scikit_learn_also_on_ties(decimals: int) -> None:
    rng = np.random.default_rng(1)
    good, anomalous = rng.normal(size=300).round(decimals), rng.normal(0.7, 1, 200).round(decimals)
    expected = roc_auc_score(np.repeat([0, 1], [300, 200]), np.concatenate([good, anomalous]))
    assert auroc(good, anomalous) == pytest.approx(expected, abs=1e-12)


def test_auroc_of_nothing_is_none() -> None:
    none, some = np.empty(0), np.ones(3)
    assert auroc(none, some) is None
    assert auroc(some, none) is None
    assert auroc(none, none) is None


def rendered() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Masks with several components, two of them touching at a corner only, and noisy maps of 6 images."""
    rng = np.random.default_rng(2)
    masks = np.zeros((6, 48, 64), np.uint8)
    masks[0, 5:15, 5:20] = masks[1, 30:33, 2:60] = masks[2, 0:4, 0:4] = 1
    masks[3, 10:14, 10:14] = masks[3, 14:20, 14:20] = masks[3, 40:45, 50:60] = 1
    maps = rng.normal(size=masks.shape) + 1.2 * masks
    return masks, maps.astype(np.float32)


def adeval_figures(masks: npt.NDArray[np.uint8], maps: npt.NDArray[np.float32]) -> tuple[dict[str, float], float]:
    with warnings.catch_warnings():  # of adeval's own, about the figures that are not asked of it here
        warnings.simplefilter("ignore")
        from adeval import EvalAccumulator
        from adeval.au_pro import calculate_au_pro

        accumulator = EvalAccumulator(float(maps.min()) - 1, float(maps.max()) + 1, nstrips=100_000)
        accumulator.add_anomap_batch(list(maps), list(masks))
        return accumulator.summary(), calculate_au_pro(list(masks), list(maps), 0.3, num_thresholds=100_000)[0]


def test_au_pro_and_pixel_auroc_agree_with_adeval_and_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # adeval 1.1 still calls it by its old name
    masks, maps = rendered()
    regions = [
        Region(scores.ravel()[pixels], pixels.size)
        for mask, scores in zip(masks, maps, strict=True)
        for pixels in connected_regions(mask > 0)
    ]
    assert len(regions) == 5
    free = [scores[mask == 0] for mask, scores in zip(masks, maps, strict=True)]
    whole = Region(maps[masks > 0], int(masks.sum()))
    found, reference = adeval_figures(masks, maps)
    assert area(free, regions, 0.3) == pytest.approx(found["p_aupro"], abs=1e-4)
    assert area(free, regions, 0.3) == pytest.approx(reference, abs=1e-4)
    assert area(free, [whole], 1.0) == pytest.approx(found["p_auroc"], abs=1e-4)
    assert area(free, [whole], 1.0) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)


def test_the_limit_cuts_the_line_between_two_thresholds() -> None:
    # All pixels tie: the curve is the diagonal, whose area up to 0.3 is 0.3 * 0.3 / 2.
    regions = [Region(np.ones(10, np.float32), 10)]
    assert area([np.ones(100, np.float32)], regions, 0.3) == pytest.approx(0.15)


def test_a_saturated_defect_counts_as_found() -> None:
    scores = np.array([2.0, 2.0, -1.0, -1.0], np.float32)
    free = [np.zeros(10, np.float32)]
    assert area(free, [Region(scores, 2)], 0.3) == pytest.approx(1.0)
    assert area(free, [Region(scores, 4)], 0.3) == pytest.approx(0.5)


def test_a_saturation_is_a_share_of_the_area_or_at_most_the_area() -> None:
    assert SATURATIONS[255].pixels(36) == 36
    assert SATURATIONS[255].pixels(320) == 60
    assert SATURATIONS[253].pixels(321) == 160
    assert SATURATIONS[253].pixels(1) == 1
