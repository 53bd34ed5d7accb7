"""Statistics of nights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from raysvq.fleet.watch.statistics import (
    Nights,
    Past,
    against_past,
    against_reference,
    holm,
    learn_cameras,
    learn_nights,
    make_past,
    same_distribution,
    too_many,
    unusual_counts,
)

NONE = np.zeros((0, 1))


def _pasts(
    rng: np.random.Generator, cameras: int, nights: int, spread: float, errors: np.ndarray
) -> list[Past]:
    """Of cameras that differ in the errors of their nights."""
    return [
        make_past(
            rng.normal(0, np.hypot(spread, errors[camera]), (nights, 1)),
            np.full((nights, 1), errors[camera]),
            NONE,
            NONE,
        )
        for camera in range(cameras)
    ]


def test_what_nights_have_beyond_their_numbers_of_images_is_learnt_from_all_cameras() -> None:
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.01, 0.2, 400)
    learnt = learn_nights(_pasts(rng, 400, 10, 0.05, errors), 1.0)
    assert np.sqrt(learnt.variance) == pytest.approx(0.05, rel=0.35)
    assert learnt.factor == pytest.approx(1, abs=0.2)
    assert learnt.weight > 30  # cameras do not differ by more than their errors


def test_cameras_that_differ_get_a_weight_that_says_so() -> None:
    rng = np.random.default_rng(0)
    spreads = np.sqrt(0.05**2 / (rng.chisquare(4, 300) / 4))
    pasts = [
        make_past(rng.normal(0, spread, (12, 1)), np.full((12, 1), 1e-3), NONE, NONE) for spread in spreads
    ]
    assert learn_nights(pasts, 0.05).weight == pytest.approx(4, rel=0.5)


def test_too_few_cameras_leave_what_is_assumed() -> None:
    assert learn_nights([], 0.1).variance == pytest.approx(0.01)
    assert learn_cameras([3.0] * 7, 0.1).variance == pytest.approx(0.01)


def test_p_values_of_healthy_nights_are_what_they_say() -> None:
    rng = np.random.default_rng(1)
    errors = rng.uniform(0.01, 0.1, 2000)
    pasts = _pasts(rng, 2000, 8, 0.05, errors)
    learnt = learn_nights(pasts, 1.0)
    values = rng.normal(0, np.hypot(0.05, errors))
    p_values = [
        against_past(np.array([value]), np.array([error]), past, learnt)[0]
        for value, error, past in zip(values, errors, pasts, strict=True)
    ]
    for level in (0.01, 0.05, 0.2):
        assert level / 3 < np.mean(np.array(p_values) < level) < 1.1 * level, level


def test_several_nights_together_say_more_than_one() -> None:
    past = make_past(np.linspace(-0.1, 0.1, 9)[:, None], np.full((9, 1), 0.05), NONE, NONE)
    after = make_past(
        np.linspace(-0.1, 0.1, 9)[:, None], np.full((9, 1), 0.05), np.full((2, 1), 0.3), np.full((2, 1), 0.05)
    )
    value, error = np.array([0.3]), np.array([0.05])
    alone, shift = against_past(value, error, past, Nights(0.05**2))
    together, common = against_past(value, error, after, Nights(0.05**2))
    assert together < alone / 3
    assert shift == common == pytest.approx(0.3)


def test_a_shift_is_no_larger_than_tonight_and_the_nights_before_share() -> None:
    recent = np.array([[0.9], [0.9]])
    past = make_past(np.linspace(-0.1, 0.1, 9)[:, None], np.full((9, 1), 0.01), recent, np.full((2, 1), 0.01))
    assert against_past(np.array([0.0]), np.array([0.01]), past, Nights(0.05**2))[1] == pytest.approx(0)
    assert against_past(np.array([-0.5]), np.array([0.01]), past, Nights(0.05**2))[1] <= 0


def test_cameras_that_differ_from_their_reference_make_one_more_no_surprise() -> None:
    rng = np.random.default_rng(2)
    like, apart = (learn_cameras(rng.normal(0, spread, 100), 0.1) for spread in (0.02, 0.5))
    assert against_reference(0.5, 0.01, Nights(0.01**2), like) < 1e-6
    assert against_reference(0.5, 0.01, Nights(0.01**2), apart) > 0.1


def test_what_all_cameras_have_in_common_is_not_how_they_differ() -> None:
    rng = np.random.default_rng(3)
    assert learn_cameras(5 + rng.normal(0, 0.1, 200), 0.1).variance == pytest.approx(0.01, rel=0.4)


def test_one_camera_gone_astray_does_not_hide_itself() -> None:
    rng = np.random.default_rng(4)
    offsets = [*rng.normal(0, 0.1, 30), 50.0]
    assert learn_cameras(offsets, 0.1).variance < 0.03


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_counts_after_few_images_surprise_less() -> None:
    assert too_many(0, 50, 1, 100) == pytest.approx(1)
    assert too_many(8, 50, 1, 100) > too_many(8, 50, 100, 10_000)
    known = too_many(8, 50, 1e5, 1e7)
    assert known == pytest.approx(stats.binom.sf(7, 50, 0.01), rel=0.01)
    both = unusual_counts(np.array([0.0, 25.0, 50.0]), 50, np.array([500.0, 500.0, 500.0]), 1000)
    assert both[0] == pytest.approx(both[2])
    assert both[0] < 1e-9
    assert both[1] == 1


def test_distributions_are_compared_at_any_number_of_images() -> None:
    rng = np.random.default_rng(5)
    for images in (20, 500):
        assert same_distribution(rng.standard_normal(images), rng.standard_normal(400)) > 0.001
        assert same_distribution(rng.standard_normal(images) + 2, rng.standard_normal(400)) < 1e-6
