import numpy as np
import pytest

from models.calibrate import (
    allowed_rejects,
    choose_threshold,
    false_reject_bound,
    trimmed_moments,
    whitening_of,
)


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
