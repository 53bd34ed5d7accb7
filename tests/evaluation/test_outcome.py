from __future__ import annotations

import numpy as np
import pytest

from raysvq.decisions import (
    CalibrationScores,
    Decisions,
    false_alarm_interval,
    fit_decisions,
    fixed_decisions,
)
from raysvq.evaluation.labelled_images import TestImage
from raysvq.evaluation.outcome import compare_with_promise, uniformity
from raysvq.evaluation.result import Outcome
from raysvq.evaluation.score_rows import ScoredImage
from raysvq.settings import DecisionSettings
from raysvq.storage import ObjectInfo


def _decisions(calibrated: int, rate: float = 0.05) -> Decisions:
    scores = np.random.default_rng(0).gamma(9, 1, calibrated).astype(np.float32)
    names = tuple(str(at) for at in range(calibrated))
    calibration = CalibrationScores(scores, np.zeros(calibrated, bool), (None,) * calibrated, names)
    return fit_decisions(calibration, DecisionSettings(max_false_alarm_rate=rate), 1.0, {})


def _scored(decisions: Decisions, scores: np.ndarray, anomalous: bool = False, per_group: int = 0) -> list:
    images = []
    for at, score in enumerate(scores.tolist()):
        decided = decisions.decide(score)
        group = f"part {at // per_group}" if per_group else None
        images.append(
            ScoredImage(
                image=TestImage(f"{at:05}", f"{at}.png", anomalous, None, None, group),
                width=8,
                height=8,
                score=score,
                flagged=decided.is_anomalous,
                threshold=decided.threshold,
                tile_scores=np.zeros(1, np.float32),
                tile_labels=None,
                version=ObjectInfo(f"{at}.png", 1, None, None),
                p_value=decided.p_value,
            )
        )
    return images


def _outcome(decisions: Decisions, scores: np.ndarray, per_group: int = 0) -> Outcome:
    found = compare_with_promise(decisions.promise, _scored(decisions, scores, per_group=per_group))
    assert found is not None
    return found


def _normal(number: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).gamma(9, 1, number)


def test_images_like_those_that_calibrated_keep_the_promise() -> None:
    decisions = _decisions(500)
    found = _outcome(decisions, _normal(400))
    assert (found.low, found.high) == false_alarm_interval(decisions.promise, 400)
    assert found.low <= found.false_alarms <= found.high
    assert found.judgement == "above"
    assert found.uniform_p is not None
    assert found.uniform_p > 0.01
    assert f"{found.false_alarms} of 400 good test images are flagged" in found.sentence
    assert "(5.25 %), more than the 5 % promised, but no more than chance explains" in found.sentence
    below = _outcome(decisions, _normal(300))
    assert below.judgement == "kept"
    assert below.sentence.endswith("; at most 5 % were promised.")


def test_images_that_differ_break_it_and_the_reason_is_named() -> None:
    found = _outcome(_decisions(500), 1.5 * _normal(400))
    assert found.judgement == "broken"
    assert found.uniform_p is not None
    assert found.uniform_p < 1e-6
    assert found.sentence.startswith("The promise is not kept: ")
    assert "score differently from those that calibrated (Kolmogorov-Smirnov p = " in found.sentence
    assert "raysvq calibrate" in found.sentence


def test_a_few_odd_images_among_many_alike_are_to_be_looked_at() -> None:
    found = _outcome(_decisions(500), np.concatenate([_normal(380), np.full(40, 99.0)]))
    assert found.judgement == "broken"
    scores_alike = _outcome(_decisions(500, 0.01), np.concatenate([_normal(400), np.full(14, 99.0)]))
    assert scores_alike.judgement == "broken"
    assert "look at the flagged images, their labels first" in scores_alike.sentence


def test_fewer_alarms_than_expected_keep_the_promise_and_are_said() -> None:
    found = _outcome(_decisions(500), 0.4 * _normal(400))
    assert found.judgement == "kept"
    assert found.false_alarms < found.low
    assert "the threshold is higher than it need be" in found.sentence
    assert "Yet good test images score differently" in found.sentence


@pytest.mark.parametrize("calibrated", [1, 5, 19, 20])
def test_a_promise_of_few_images_allows_much(calibrated: int) -> None:
    found = _outcome(_decisions(calibrated, 0.01), _normal(50))
    assert found.judgement != "broken"
    assert found.high >= 50 / (calibrated + 1)


def test_one_normal_image_is_enough_and_without_one_there_is_no_outcome() -> None:
    decisions = _decisions(20)
    assert _outcome(decisions, _normal(1)).normals == 1
    outliers = _scored(decisions, _normal(3), anomalous=True)
    assert compare_with_promise(decisions.promise, outliers) is None
    assert compare_with_promise(decisions.promise, []) is None


def test_images_of_one_part_widen_the_interval() -> None:
    decisions = _decisions(500)
    apart, together = (_outcome(decisions, _normal(400), per_group) for per_group in (0, 40))
    assert (together.normals, together.false_alarms) == (apart.normals, apart.false_alarms)
    assert together.high > apart.high
    alone = _outcome(decisions, _normal(400), 1)
    assert alone == apart


def test_p_values_of_exchangeable_images_pass_for_uniform_however_few_calibrated() -> None:
    rng = np.random.default_rng(3)
    for calibrated in (10, 200):
        rejected = 0
        for _ in range(300):
            others, new = rng.normal(size=calibrated), rng.normal(size=300)
            ranks = (1 + (others[None] >= new[:, None]).sum(axis=1)) / (calibrated + 1)
            found = uniformity(ranks.tolist(), calibrated)
            assert found is not None
            rejected += found < 0.05
        assert rejected / 300 < 0.09


def test_without_p_values_nothing_is_tested() -> None:
    assert uniformity([], 20) is None
    assert uniformity([0.5], 0) is None


def test_a_policy_that_promises_no_rate_breaks_no_promise() -> None:
    calibration = CalibrationScores(
        _normal(100, 0).astype(np.float32), np.zeros(100, bool), (None,) * 100, tuple(map(str, range(100)))
    )
    by_hand = fit_decisions(calibration, DecisionSettings(policy="manual", threshold=18.0), 1.0, {})
    found = _outcome(by_hand, 2 * _normal(100))
    assert found.judgement == "none"
    assert found.false_alarms > found.high
    assert f"more than the {found.low} to {found.high} that calibration lets expect" in found.sentence
    assert "promised" not in found.sentence


def test_a_promised_recall_stands_beside_what_was_found() -> None:
    scores = np.concatenate([_normal(100, 0), np.full(100, 30.0)]).astype(np.float32)
    calibration = CalibrationScores(scores, np.arange(200) >= 100, (None,) * 200, tuple(map(str, range(200))))
    decisions = fit_decisions(calibration, DecisionSettings(policy="min_recall", min_recall=0.9), 1.0, {})
    images = _scored(decisions, _normal(50)) + _scored(
        decisions, np.array([29.0, 31, 31, 31]), anomalous=True
    )
    found = compare_with_promise(decisions.promise, images)
    assert found is not None
    assert found.judgement == "above"
    said = " Of 4 defective ones 75 % are found; at least 90 % were promised, and chance explains the lack."
    assert found.sentence.endswith(said)
    many = images + _scored(decisions, np.full(30, 29.0), anomalous=True)
    broken = compare_with_promise(decisions.promise, many)
    assert broken is not None
    assert broken.judgement == "broken"
    assert broken.sentence.endswith("and chance does not explain the lack.")
    fine = compare_with_promise(
        decisions.promise, images[:50] + _scored(decisions, np.full(9, 31.0), anomalous=True)
    )
    assert fine is not None
    assert fine.judgement == "kept"


def test_more_than_promised_is_said_even_where_few_calibrated_and_chance_explains_it() -> None:
    decisions = _decisions(19)
    found = _outcome(decisions, np.concatenate([np.full(39, 5.0), np.full(8, 99.0)]))
    assert found.judgement == "above"
    assert found.sentence.startswith(
        "8 of 47 good test images are flagged (17 %), more than the 5 % promised, but so few"
        f" calibrated (19) that chance alone explains {found.low} to {found.high}."
    )
    assert "expected" not in found.sentence


def test_a_rate_that_is_kept_is_not_called_broken_where_calibration_was_stricter() -> None:
    scores = np.random.default_rng(0).gamma(9, 1, 1000).astype(np.float32)
    calibration = CalibrationScores(
        scores, np.zeros(1000, bool), (None,) * 1000, tuple(map(str, range(1000)))
    )
    settings = DecisionSettings(max_false_alarm_rate=0.05, confidence=0.999999)
    decisions = fit_decisions(calibration, settings, 1.0, {})
    found = _outcome(decisions, np.concatenate([np.full(9500, 5.0), np.full(499, 99.0)]))
    assert found.false_alarms > found.high
    assert found.judgement == "kept"
    assert "not kept" not in found.sentence


def test_a_model_of_an_earlier_version_promises_nothing() -> None:
    found = _outcome(fixed_decisions(5.0, 1.0, "", "quantile"), _normal(10))
    assert (found.low, found.high, found.judgement, found.uniform_p) == (0, 10, "none", None)
    assert "earlier version, and promises nothing" in found.sentence
