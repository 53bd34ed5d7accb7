"""Calibration scores: refusals, units that count once, and what is kept of many."""

from __future__ import annotations

import numpy as np
import pytest

from raysvq.decisions.calibration import CalibrationScores, float32_from, keep, split_by_label
from raysvq.errors import DataError


def _given(scores: list[float], anomalous: list[bool], units: list[str] | None = None) -> CalibrationScores:
    return CalibrationScores(
        np.array(scores, np.float32),
        np.array(anomalous, bool),
        [None] * len(scores),
        units or [str(number) for number in range(len(scores))],
    )


def test_images_of_a_unit_weigh_one_together_within_each_label() -> None:
    given = _given([1, 2, 3, 4, 5], [False, False, False, True, True], ["a", "a", "b", "a", "c"])
    normals, outliers = split_by_label(given)
    assert normals.count == 2
    assert normals.weights.tolist() == [0.5, 0.5, 1.0]
    assert outliers.weights.tolist() == [1.0, 1.0]
    assert outliers.scores.tolist() == [4.0, 5.0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (_given([1, 2], [True, True]), "found 0 normal images among 2"),
        (_given([], []), "found 0 normal images among 0"),
        (_given([1, np.nan], [False, True]), "not finite"),
        (_given([1, np.inf], [False, False]), "not finite"),
        (_given([1, 2], [False, False], ["a"]), "found 2 scores, 2 labels, 2 groups and 1 units"),
    ],
)
def test_what_cannot_calibrate_is_refused(given: CalibrationScores, said: str) -> None:
    with pytest.raises(DataError, match=said):
        split_by_label(given)


def test_p_values_count_equal_scores() -> None:
    kept = keep(np.array([1.0, 2.0, 2.0, 3.0]), np.ones(4), 4)
    assert [kept.p_value(score) for score in (0.5, 1, 2, 2.5, 3, 3.1)] == [1, 1, 0.8, 0.4, 0.4, 0.2]


@pytest.mark.parametrize("images", [1, 900, 50_000, 400_000])
def test_thinned_scores_keep_p_values(images: int) -> None:
    rng = np.random.default_rng(images)
    scores = np.sort(rng.gamma(3, size=images).astype(np.float32).astype(np.float64))
    kept = keep(scores, np.ones(images), images)
    assert len(kept.scores) < 8000
    assert sum(kept.weights) == pytest.approx(images)
    for score in [*rng.choice(scores, 200), *scores[-900:], 0.0, scores[-1] + 1]:
        exact = (1 + images - np.searchsorted(scores, score)) / (images + 1)
        found = kept.p_value(float(score))
        assert exact - 1e-12 <= found <= exact * (1 + 1e-3) + 1e-12
    for place in range(1, min(900, images)):  # the upper tail, exactly
        assert kept.p_value(scores[-place]) == pytest.approx((1 + place) / (images + 1), rel=1e-12)


def test_a_float32_is_not_below_the_value() -> None:
    assert float32_from(3.25) == 3.25
    assert float32_from(3.2) >= 3.2
    assert float32_from(np.nextafter(3.25, 9)) == float(np.nextafter(np.float32(3.25), np.float32(9)))
