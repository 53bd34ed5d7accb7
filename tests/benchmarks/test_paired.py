"""Paired differences against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.methods.paired import by_draw, interval, resampled
from benchmarks.methods.predictions import Scored
from raysvq.errors import DataError

LABELS = [False] * 8 + [True] * 8


def _scored(scores: list[float], names: str = "i") -> Scored:
    images = tuple(f"{names}{n}" for n in range(len(scores)))
    return Scored(images, np.array(LABELS), np.array(scores, np.float32))


RIGHT = [float(n) for n in range(16)]
MIXED = [3.0, 14, 1, 9, 4, 6, 2, 0, 8, 5, 10, 11, 7, 13, 12, 15]


def test_the_interval_over_draws_is_students() -> None:
    found = by_draw([0.1, 0.2, 0.3])
    assert found.mean == pytest.approx(0.2)
    assert found.by_draw == pytest.approx((0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5))
    assert by_draw([0.1]).by_draw is None


def test_every_resample_of_all_right_against_all_wrong_differs_by_one() -> None:
    found = resampled([(_scored(RIGHT), _scored(RIGHT[::-1]))], resamples=50)
    assert found.shape == (50,)
    assert (found == 1).all()


def test_both_methods_are_measured_on_the_same_resample() -> None:
    twice = [2 * score for score in MIXED]
    assert (resampled([(_scored(MIXED), _scored(twice))], resamples=50) == 0).all()


def test_an_image_that_several_draws_test_is_drawn_once() -> None:
    there, back = (_scored(MIXED), _scored(RIGHT)), (_scored(RIGHT), _scored(MIXED))
    assert np.abs(resampled([there, back], resamples=50)).max() < 1e-12
    apart = _scored(RIGHT, names="j"), _scored(MIXED, names="j")
    assert resampled([there, apart], resamples=50).std() > 0


def test_the_interval_over_images_is_that_of_a_bootstrap_apart_by_label() -> None:
    """Against a plain loop: normal and anomalous images are drawn with replacement, each apart."""
    rng, labels = np.random.default_rng(1), np.array(LABELS)
    a, b = np.array(RIGHT), np.array(MIXED)
    differences = []
    for _ in range(4000):
        normal, anomalous = (rng.choice(np.flatnonzero(labels == one), 8) for one in (False, True))
        areas = [
            np.mean(one[anomalous][:, None] > one[normal])
            + np.mean(one[anomalous][:, None] == one[normal]) / 2
            for one in (a, b)
        ]
        differences.append(areas[0] - areas[1])
    found = interval(resampled([(_scored(RIGHT), _scored(MIXED))], resamples=4000))
    assert found == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.02)


def test_runs_on_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="expected the same"):
        resampled([(_scored(RIGHT), _scored(MIXED, names="j"))])
