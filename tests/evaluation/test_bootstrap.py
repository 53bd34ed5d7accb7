from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from raysvq.evaluation.bootstrap import Interval, bootstrap_intervals, count_groups
from raysvq.evaluation.metrics import auroc_of_counts, average_precision_of_counts

BOTH = (auroc_of_counts, average_precision_of_counts)
ORACLES = (roc_auc_score, average_precision_score)


def _images(seed: int, number: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(number) < 0.3
    labels[:2] = [True, False]
    return labels, np.round(rng.random(number) * levels + labels * levels / 3)


def _intervals(
    labels: np.ndarray, scores: np.ndarray, groups: list[str | None] | None = None, **options: int
) -> list[Interval] | None:
    options = {"resamples": 4000, **options}
    return bootstrap_intervals(
        labels, scores, groups or [None] * len(labels), BOTH, confidence=0.9, **options
    )


def _plain(
    labels: np.ndarray, scores: np.ndarray, groups: list[list[int]], oracle: Callable[..., float]
) -> tuple:
    """The interval by drawing groups one by one: normal ones, anomalous ones and mixed ones apart."""
    rng = np.random.default_rng(1)
    kinds: dict[tuple[bool, bool], list[list[int]]] = {}
    for group in groups:
        kinds.setdefault((labels[group].any(), labels[group].all()), []).append(group)
    values = []
    for _ in range(500):
        drawn = [
            at for kind in kinds.values() for one in rng.integers(0, len(kind), len(kind)) for at in kind[one]
        ]
        values.append(oracle(labels[drawn], scores[drawn]))
    return tuple(np.quantile(values, [0.05, 0.95]))


def test_intervals_are_those_of_a_plain_stratified_bootstrap() -> None:
    labels, scores = _images(5, 90, 20)
    found = _intervals(labels, scores)
    assert found is not None
    for interval, oracle in zip(found, ORACLES, strict=True):
        assert interval == pytest.approx(
            _plain(labels, scores, [[at] for at in range(90)], oracle), abs=0.015
        )


def test_groups_are_drawn_as_a_whole() -> None:
    labels, scores = _images(3, 120, 20)
    numbers = np.random.default_rng(0).integers(0, 30, 120)
    scores = scores + 6 * np.random.default_rng(2).random(30)[numbers]  # images of a group are alike
    groups = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
    found = _intervals(labels, scores, [f"part {number}" for number in numbers])
    assert found is not None
    for interval, oracle in zip(found, ORACLES, strict=True):
        assert interval == pytest.approx(_plain(labels, scores, groups, oracle), abs=0.025)


def test_groups_of_one_image_are_images() -> None:
    labels, scores = _images(5, 90, 20)
    assert _intervals(labels, scores, [str(at) for at in range(90)]) == _intervals(labels, scores)


def test_copies_of_images_in_groups_do_not_narrow_the_interval() -> None:
    labels, scores = _images(5, 60, 1000)
    [(low, high), _] = _intervals(labels, scores) or []
    copied = [f"part {at}" for at in range(60)] * 8
    [(grouped_low, grouped_high), _] = _intervals(np.tile(labels, 8), np.tile(scores, 8), copied) or []
    [(naive_low, naive_high), _] = _intervals(np.tile(labels, 8), np.tile(scores, 8)) or []
    assert (grouped_low, grouped_high) == pytest.approx((low, high), abs=0.01)
    assert naive_high - naive_low < 0.6 * (high - low)


def test_an_interval_repeats_and_moves_with_the_seed() -> None:
    labels, scores = _images(5, 90, 20)
    first, again, other = (_intervals(labels, scores, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([], []),
        ([True, True], [None, None]),
        ([False, False], [None, None]),
        ([False, True, True], [None, None, None]),  # one normal image
        ([False, False, True, True], ["one", "one", None, None]),  # all normal images are of one part
    ],
)
def test_without_two_groups_of_each_class_there_is_no_interval(
    labels: list[bool], groups: list[str | None]
) -> None:
    assert _intervals(np.array(labels, dtype=bool), np.arange(len(labels), dtype=float), groups) is None


def test_no_resamples_no_interval() -> None:
    assert _intervals(*_images(5, 90, 20), resamples=0) is None


def test_a_group_with_both_labels_counts_for_both() -> None:
    assert count_groups(np.array([True, False, False]), ["part", "part", None]) == (2, 1)


def test_ten_thousand_images_take_seconds() -> None:
    labels, scores = _images(5, 10_000, 1_000_000)
    start = time.perf_counter()
    _intervals(labels, scores, resamples=1000)
    _intervals(labels, scores, [f"part {at // 4}" for at in range(10_000)], resamples=1000)
    assert time.perf_counter() - start < 20
