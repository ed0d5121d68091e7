import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from models.calibrate import (
    LEAST_OF_A_KIND,
    GoodResiduals,
    calibrate,
    fit_distance,
    fit_places,
    kinds_of,
    trimmed_moments,
    whitening_of,
)
from models.choose import (
    by_kind,
    choose_largest,
    choose_maps,
    choose_parts,
    does_harm,
    judging_fakes,
    unlike_learned,
    wins,
)
from models.detector import Detector
from models.fakes import EDITS, GENERATED, Fake
from models.grid import GRID
from models.heads import Distance
from models.memory import PatchMemory
from models.method import HEADS, Method
from models.threshold import allowed_rejects, choose_threshold, false_reject_bound

from .tiny import TinyTeacher

C = TinyTeacher.channels
PARTS = Detector.PARTS


def test_299_images_are_needed_to_show_one_per_cent_at_95() -> None:
    assert allowed_rejects(298, 0.01, 0.95) is None
    assert allowed_rejects(299, 0.01, 0.95) == 0


def test_the_bound_is_the_rule_of_three() -> None:
    assert false_reject_bound(0, 300, 0.95) == pytest.approx(3 / 300, rel=0.01)


def test_enough_images_give_one_of_their_own_scores() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    choice = choose_threshold(scores, target=0.01, confidence=0.95)
    assert choice.method == "order statistic"
    assert choice.value in scores
    assert choice.is_shown
    assert (scores > choice.value).mean() <= 0.01


def test_few_images_promise_nothing_and_say_so() -> None:
    scores = np.random.default_rng(0).normal(size=20)
    choice = choose_threshold(scores, target=0.01, confidence=0.95)
    assert not choice.is_shown
    assert choice.shown_false_reject_rate == pytest.approx(0.139, abs=0.001)
    assert choice.value >= scores.max()


def test_the_threshold_keeps_its_target_on_parts_not_seen() -> None:
    """In at least 95 of 100 repetitions, with 400 images each, as its confidence says."""
    rng = np.random.default_rng(1)
    unseen = rng.gamma(3, size=200_000)
    kept = [
        (unseen > choose_threshold(rng.gamma(3, size=400), target=0.02, confidence=0.95).value).mean() <= 0.02
        for _ in range(100)
    ]
    assert sum(kept) >= 92


def test_trimmed_moments_ignore_outliers() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=4000)
    values[:100] = 1e6
    mean, deviation = trimmed_moments(values)
    assert mean == pytest.approx(3, abs=0.2)
    assert deviation == pytest.approx(2, rel=0.1)


def test_identical_scores_have_a_deviation_above_zero() -> None:
    assert trimmed_moments(np.full(20, 7.0))[1] > 0


def test_the_global_distance_is_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 6)) @ rng.normal(size=(6, 6)) + 5
    whitened = (values - values.mean(axis=0)) @ whitening_of(values).T
    centred = values - values.mean(axis=0)
    expected = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(centred.T)), centred)
    assert np.allclose((whitened**2).sum(axis=1), expected, rtol=0.05)


def of_kinds(count: int, each: int = 40) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Embeddings (count * each, 30) of a product in so many kinds."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, 1, 30)) * 3 + rng.normal(size=(count, each, 30))).reshape(-1, 30)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_kinds_of_a_product_are_found(count: int) -> None:
    kind = kinds_of(of_kinds(count), seed=0).reshape(count, -1)
    assert (kind == kind[:, :1]).all()
    assert sorted(kind[:, 0]) == list(range(count))


def test_few_images_are_of_one_kind() -> None:
    assert not kinds_of(of_kinds(2, each=LEAST_OF_A_KIND - 1), seed=0).any()


def test_what_lies_between_two_kinds_is_far_from_both() -> None:
    values = of_kinds(2)
    head = Distance(30)
    fit_distance(head, torch.from_numpy(values).float(), seed=0)
    good = torch.stack([head(torch.from_numpy(value).float()) for value in values])
    between = torch.from_numpy((values[:40].mean(axis=0) + values[40:].mean(axis=0)) / 2).float()
    assert head(between) > good.max()
    near_all = torch.from_numpy(whitening_of(values) @ (between.numpy() - values.mean(axis=0))).norm()
    assert near_all < 0.1  # of one kind, it would be the most usual of all


def test_the_share_of_good_images_that_are_beaten_is_the_auroc() -> None:
    rng = np.random.default_rng(0)
    good, fake = (torch.from_numpy(rng.normal(mean, 1, 60).round(1)) for mean in (0, 1))  # rounded: there are ties
    labels = [0] * 60 + [1] * 60
    assert wins(good, fake).mean() == pytest.approx(roc_auc_score(labels, torch.cat([good, fake])))


def test_of_equal_choices_the_largest_is_taken() -> None:
    won = np.random.default_rng(0).uniform(size=(50, 20)).round()
    assert choose_largest(np.stack([won, won, won]), [1, 3, 2]) == 1


def test_a_part_that_does_harm_is_left_out_and_one_that_may_not_is_kept() -> None:
    won = np.ones((50, 20))
    doubtful, harmful = won.copy(), won.copy()
    doubtful[:3] = 0  # three fakes of fifty, of which two are lost and one is won, are no proof
    base = won.copy()
    base[2] = 0
    doubtful[2] = 1
    harmful[np.random.default_rng(0).uniform(size=won.shape) < 0.3] = 0
    assert choose_largest(np.stack([base, doubtful]), [1, 2]) == 1
    assert choose_largest(np.stack([won, harmful]), [1, 2]) == 0


def test_little_harm_is_none_however_sure_it_is() -> None:
    won = np.full((50, 20), 0.9)
    options = np.stack([won, won - 0.008 - 1e-4 * np.random.default_rng(0).uniform(size=won.shape)])
    assert choose_largest(options, [1, 2]) == 0
    assert choose_largest(options, [1, 2], slack=0.01) == 1
    assert choose_largest(options, [1, 2], slack=0.005) == 0


def test_one_good_image_of_ten_does_not_decide() -> None:
    """A part that is loud on one good image loses a tenth to every fake; that is one image's word."""
    without = np.ones((80, 10))
    with_it = without.copy()
    with_it[:, 0] = 0
    assert choose_largest(np.stack([without, with_it]), [1, 2]) == 1


def test_one_fake_alone_decides_nothing() -> None:
    assert choose_largest(np.stack([np.ones((1, 30)), np.zeros((1, 30))]), [1, 2]) == 1


@pytest.mark.usefixtures("tiny_networks")
def test_parts_are_chosen_among_the_methods_heads_only() -> None:
    """The components would tell everything, but the method has no such head."""
    detector = Detector(Method(heads=("global", "puad")))
    good, fake = torch.randn(2, 40, len(detector.parts), generator=torch.Generator().manual_seed(0))
    fake[:, detector.parts.index("components")] += 100
    fake[:, detector.parts.index("global")] += 100
    good[:, detector.parts.index("puad")] *= 100  # as loud on good images as on no fake
    choose_parts(detector, good, fake, ["scratch", "stain"] * 20)
    chosen = set(detector.counted_parts())
    assert "global" in chosen
    assert not chosen & {"puad", "components", "patch"}
    assert set(detector.part_weight.tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("lost", "fair", "harm"),
    [
        ((0.4, 0.0, 0.0), (True, True, False), True),
        ((0.4, -0.1, 0.0), (True, True, False), True),
        ((0.0, 0.0, 0.4), (True, True, False), False),
        ((0.008, 0.008, 0.0), (True, True, False), False),
        ((0.4, 0.4, 0.4), (True, False, False), True),
        ((0.4, 0.4, 0.4), (False, False, False), False),
    ],
    ids=[
        "one of two kinds",
        "the other gains",
        "of what it has learned",
        "worth less",
        "only one kind",
        "none is fair",
    ],
)
def test_what_harm_is(lost: tuple[float, ...], fair: tuple[bool, ...], harm: bool) -> None:
    without = np.full((30, 40), 0.5)
    with_it = without - np.repeat(lost, 10)[:, np.newaxis]
    assert does_harm(without, with_it, list(np.repeat(fair, 10))) is harm


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize(
    ("seen", "noise", "counts"),
    [((GENERATED, "stain"), 1, True), ((GENERATED, "stain"), 1000, False), ((), 1, True)],
    ids=["it helps", "it does harm on what it has not learned", "it changes nothing"],
)
def test_csda_is_left_out_where_it_does_harm_on_what_it_has_not_learned(
    seen: tuple[str, ...], noise: float, counts: bool
) -> None:
    detector, kinds = Detector(), [GENERATED, "stain", "scratch", "recoloured"] * 20
    generator = torch.Generator().manual_seed(0)
    good, fake = (torch.randn(count, len(PARTS), generator=generator) for count in (40, len(kinds)))
    fake[2::4, :-1] += 3
    fake[3::4, :-1] += 3
    good[:20, -1] *= noise
    fake[[kind in seen for kind in kinds], -1] += 1e6
    choose_parts(detector, good, fake, kinds)
    assert ("csda" in detector.counted_parts()) is counts
    assert bool(detector.map_weight[-1]) is counts


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize(
    ("noise", "stays"), [(1, True), (100, False)], ids=["it says nothing", "it is loud on good images"]
)
def test_a_student_that_does_harm_is_left_out(noise: float, stays: bool) -> None:
    detector = Detector(Method(heads=HEADS[:-1]))
    kinds = ["stain", "scratch", "recoloured", "missing"] * 20
    generator = torch.Generator().manual_seed(0)
    good, fake = (torch.randn(count, len(detector.parts), generator=generator) for count in (40, len(kinds)))
    student = [detector.parts.index(part) for part in Detector.STUDENT]
    fake += 6
    good[:, student] *= noise
    fake[:, student] = good[:, student].repeat(2, 1)
    choose_parts(detector, good, fake, kinds)
    assert bool({*detector.counted_parts()} & {*Detector.STUDENT}) is stays
    assert bool(detector.idle_parts() & {*Detector.STUDENT}) is not stays


def test_every_kind_of_fake_counts_as_much_however_many_there_are() -> None:
    won = np.array([[1.0], [1.0], [1.0], [0.0]])
    assert by_kind(won, ["stain", "stain", "stain", "scratch"]).tolist() == [[1.0], [0.0]]


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize(
    ("student", "autoencoder", "noise", "weights"),
    [(10, 0, 5, [1, 0]), (10, 10, 0, [1, 0]), (0, 10, 0, [0, 1])],
    ids=["the auto-encoder's is loud on good images", "it says nothing new", "it alone sees fakes"],
)
def test_the_auto_encoders_map_has_to_earn_its_place(
    student: float, autoencoder: float, noise: float, weights: list[float]
) -> None:
    detector = Detector()
    good = torch.rand(30, 3, 1, 1, generator=torch.Generator().manual_seed(1)).repeat(1, 1, GRID, GRID)
    fake = torch.rand(30, 3, 1, 1, generator=torch.Generator().manual_seed(2)).repeat(1, 1, GRID, GRID)
    good[:, 1] += noise * torch.exp(5 * torch.rand(30, 1, 1, generator=torch.Generator().manual_seed(0)))
    fake[:, 0] += student
    fake[:, 1] += autoencoder
    choose_maps(detector, good, fake, list(EDITS)[:6] * 5)
    assert detector.map_weight[:2].flatten().tolist() == weights


@pytest.mark.usefixtures("tiny_networks")
def test_what_was_made_where_the_part_is_not_inspected_judges_nothing() -> None:
    detector, image, mask = Detector(), torch.rand(1, 3, 256, 256), torch.zeros(256, 256)
    mask[:, 200:] = 1
    made = [Fake(image, GENERATED, mask), Fake(image, GENERATED, mask.flip(1))]
    detector.region[..., GRID // 2 :] = 0
    assert [item for item in judging_fakes(detector, [image], made, per_kind=0, seed=0) if item is made[1]]
    assert len(judging_fakes(detector, [image], made, per_kind=0, seed=0)) == 1


@pytest.mark.usefixtures("tiny_networks")
def test_what_looks_like_what_csda_has_learned_from_does_not_judge_it() -> None:
    kinds = [*EDITS, GENERATED]

    def unfair(method: Method) -> set[str]:
        fair = unlike_learned(Detector(method), kinds)
        return {kind for kind, is_fair in zip(kinds, fair, strict=True) if not is_fair}

    assert unfair(Method(anomalies="cutpaste")) == {"cut and paste", "stranger"}
    assert unfair(Method(anomalies="perlin")) == {"foreign surface", "stain"}
    assert unfair(Method()) == {*EDITS, GENERATED} - {"scratch", "recoloured"}


@pytest.mark.usefixtures("tiny_networks")
def test_a_place_that_varies_more_needs_a_larger_difference() -> None:
    """The right half of good images is now quiet, now loud; the left half is always the same."""
    detector = Detector()
    generator = torch.Generator().manual_seed(0)
    residuals = []
    for _ in range(20):
        one = torch.randn(3, C, GRID, GRID, generator=generator)
        one[..., GRID // 2 :] *= 3 * torch.rand((), generator=generator)
        residuals.append(one)
    fit_places(detector, residuals)
    maps = detector.at_place(detector.distances(torch.full((3, C, GRID, GRID), 3.0)))
    calm, lively = maps[..., : GRID // 2 - 2], maps[..., GRID // 2 + 2 :]
    assert calm.min() > lively.max() > 0


@pytest.mark.usefixtures("tiny_networks")
def test_residuals_are_whitened_by_their_own_covariance_about_each_places_mean() -> None:
    detector = Detector()
    mixing = torch.randn(C, C, generator=torch.Generator().manual_seed(1))
    offset = 10 * torch.randn(3, C, GRID, GRID)
    moments = GoodResiduals(detector.region, images=20)
    drawn = [offset + torch.einsum("ij,kjhw->kihw", mixing, torch.randn(3, C, GRID, GRID)) for _ in range(20)]
    for residuals in drawn:
        moments.add(residuals)
    moments.fit(detector)
    centred = torch.stack([residuals.flatten(2) - detector.residual_mean for residuals in drawn], dim=1)  # (3, n, C, P)
    whitened = torch.einsum("kij,knjp->knip", detector.residual_whitening, centred).transpose(2, 3).flatten(1, 2)
    assert torch.allclose(detector.residual_mean, offset.flatten(2), atol=5)
    for values in whitened:
        assert torch.allclose(values.T.cov(), torch.eye(C), atol=0.05)


@pytest.mark.usefixtures("tiny_networks")
def test_calibration_brings_good_images_to_one_scale() -> None:
    torch.manual_seed(0)
    detector, told = Detector().eval(), dict[str, list[tuple[int, int]]]()
    images = [torch.rand(1, 3, 8, 8).repeat_interleave(32, 2).repeat_interleave(32, 3) for _ in range(24)]
    fakes = judging_fakes(detector, images[12:], [], per_kind=1, seed=0)

    def progress(stage: str, done: int, total: int, _note: str = "") -> None:
        told.setdefault(stage, []).append((done, total))

    calibrate(detector, images[:12], images[12:], progress, fakes=fakes)
    looked = told["calibrating"]
    assert [done for done, _ in looked] == list(range(1, looked[-1][1] + 1))
    assert told["choosing patches"][-1] == (PatchMemory.COUNT, PatchMemory.COUNT)
    with torch.inference_mode():
        parts = torch.stack([detector.judge(image)[2] for image in images[12:]])
    assert parts.median(dim=0).values.abs().max() < 1
    assert set(detector.part_weight.tolist()) <= {0, 1}
    assert detector.part_weight.any()
