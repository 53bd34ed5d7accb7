"""Decisions: hand-made sets, what they promise in words, groups, and what is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.decisions import (
    CalibrationScores,
    Decisions,
    false_alarm_interval,
    fit_decisions,
    fixed_decisions,
)
from raysvq.errors import DataError
from raysvq.settings import DecisionSettings


def scores(normals: Any, outliers: Any = (), **columns: Any) -> CalibrationScores:
    """Calibration scores: normals first; each image a unit of its own, without a group, unless given."""
    values = np.concatenate([np.asarray(normals, np.float32), np.asarray(outliers, np.float32)])
    anomalous = np.arange(len(values)) >= len(normals)
    groups = columns.get("groups", [None] * len(values))
    return CalibrationScores(
        values, anomalous, groups, columns.get("units", [str(i) for i in range(len(values))])
    )


def fit(calibration: CalibrationScores, **given: Any) -> Decisions:
    return fit_decisions(calibration, DecisionSettings(**given), 0.5, {"manifest": "somewhere"})


@pytest.mark.parametrize(
    ("normals", "rate", "flagged", "promised"),
    [(1, 0.01, 0, 0.5), (5, 0.1, 0, 1 / 6), (19, 0.05, 0, 0.05), (20, 0.05, 0, 0.05), (500, 0.01, 4, 0.01)],
)
def test_small_and_large_sets(normals: int, rate: float, flagged: int, promised: float) -> None:
    values = np.random.default_rng(0).gamma(4, size=normals).astype(np.float32)
    found = fit(scores(values), max_false_alarm_rate=rate)
    assert (values >= found.threshold).sum() == flagged
    assert np.float32(found.threshold) == found.threshold
    assert found.threshold == np.nextafter(np.sort(values)[-1 - flagged], np.float32(np.inf))
    assert found.promise.promised == pytest.approx(promised)
    assert found.promise.normals == normals


def test_too_few_normals_say_what_they_promise_instead() -> None:
    promise = fit(scores(np.arange(1, 20))).promise
    assert promise.needed == 99
    assert promise.sentence == (
        "19 normal images cannot promise that at most 1 % of good images are flagged: 99 are needed. At most"
        " 5 % are, in expectation: the threshold lies just above the largest score. Of good images expect"
        " 0.133 % to 17.6 % flagged (95 % interval)."
    )


def test_enough_normals_promise_what_was_asked() -> None:
    sentence = fit(scores(np.arange(1, 501)), confidence=0.9).promise.sentence
    assert sentence.startswith(
        "At most 1 % of good images are flagged, with a confidence of 90 %, as 500 normal images promise."
    )


@pytest.mark.parametrize(
    ("normals", "units", "given", "said"),
    [
        (1, None, {"max_false_alarm_rate": 0.5}, "in expectation, as 1 normal image promises."),
        (
            4,
            "aaaa",
            {},
            "4 normal images of 1 unit cannot promise that at most 1 % of good images are flagged: 99",
        ),
        (
            4,
            "aabb",
            {},
            "4 normal images of 2 units cannot promise that at most 1 % of good images are flagged: 99",
        ),
        (4, "aabb", {}, "flagged: 99 units are needed."),
        (1, None, {"confidence": 0.99999}, "with a confidence of 99.999 %"),
        (1, None, {"max_false_alarm_rate": 0.0123}, "cannot promise that at most 1.23 % of good"),
        (1, None, {"max_false_alarm_rate": 0.9999}, "At most 99.99 % of good"),
    ],
)
def test_sentences_parse_and_round_nothing_up(
    normals: int, units: str | None, given: dict[str, Any], said: str
) -> None:
    columns = {} if units is None else {"units": list(units)}
    assert said in fit(scores(np.arange(normals), **columns), **given).promise.sentence


@pytest.mark.parametrize(
    ("threshold", "said"),
    [(1000.0, "expect 0 % to 17.6 % flagged"), (0.5, "expect 82.4 % to 100 % flagged")],
)
def test_a_threshold_beyond_all_normals_may_flag_none_or_all(threshold: float, said: str) -> None:
    promise = fit(scores(np.arange(1, 20)), policy="manual", threshold=threshold).promise
    assert said in promise.sentence
    assert (0 if threshold > 19 else 100) in false_alarm_interval(promise, 100)


def test_units_with_long_names_and_names_alike_are_told_apart() -> None:
    calibration = scores([1.0, 2.0, 3.0], units=["lot", "lot\0", "x" * 10_000])
    assert fit(calibration).promise.normals == 3


def test_ties_pass_together_or_are_flagged_together() -> None:
    same = np.full(50, 3.25)
    assert not (same >= fit(scores(same)).threshold).any()
    steps = np.repeat([1.0, 2.0, 3.0], [50, 40, 10])
    found = fit(scores(steps), max_false_alarm_rate=0.1)
    assert (steps >= found.threshold).sum() == 0  # 10 of 100 at the top would be 11/101
    assert (steps >= fit(scores(steps), max_false_alarm_rate=0.11).threshold).sum() == 10


def test_impossible_sets_are_named() -> None:
    with pytest.raises(DataError, match="found 0 normal images among 2"):
        fit(scores([], [1.0, 2.0]))
    with pytest.raises(DataError, match="not finite"):
        fit(scores([1.0, np.nan]))
    with pytest.raises(DataError, match="pixel_threshold is nan, expected a finite number"):
        fit_decisions(scores([1.0]), DecisionSettings(), float("nan"), {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"policy": "paper"},
            "The paper's threshold balances the errors on 3 normal images and 1 anomalous image",
        ),
        (
            {"policy": "manual", "threshold": 3.2},
            "The threshold was set to 3.2 by hand, and promises no rate",
        ),
        (
            {"policy": "cost", "miss_cost": 9, "false_alarm_cost": 1, "defect_rate": 0.5},
            "The threshold costs least on 3 normal images and 1 anomalous image, 1.6 for each image",
        ),
        (
            {"policy": "min_recall"},
            "1 anomalous image cannot promise that at least 95 % of defective images are flagged: 19 are"
            " needed. At least 50 % are, in expectation: the threshold is the smallest of their scores.",
        ),
    ],
)
def test_other_policies_say_what_they_do(given: dict[str, Any], said: str) -> None:
    assert fit(scores([1, 2, 3], [9]), **given).promise.sentence.startswith(said)


def test_a_threshold_by_hand_is_the_next_float32() -> None:
    found = fit(scores([1.0]), policy="manual", threshold=3.2)
    assert found.threshold >= 3.2
    assert found.decide(3.2).is_anomalous == (float(np.float32(3.2)) >= 3.2)


@pytest.mark.parametrize("step", [-1e-9, 0.0, 1e-9])
def test_an_earlier_threshold_decides_as_it_did_and_as_its_row_says(step: float) -> None:
    """Score and threshold were compared in float32, which is how rows hold both."""
    at = np.float32(0.3)
    found = fixed_decisions(float(at) + step, 0.5, "as found", "quantile")
    for score in (np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))):
        assert found.decide(float(score)).is_anomalous == (score >= at)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([5, 40, 300]), st.sampled_from([0.05, 0.1, 0.3]), st.booleans()
)
def test_an_image_is_flagged_where_its_p_value_says_so(seed: int, number: int, rate: float, by: bool) -> None:
    """Where the rate can be promised, of the whole and of each group."""
    rng = np.random.default_rng(seed)
    groups = list(rng.choice(["a", "b", "c"], number, p=[0.6, 0.35, 0.05]))
    values = rng.gamma(3, size=number) * (1 + np.array([group == "b" for group in groups]))
    units = [str(i) for i in rng.integers(0, number, number)]
    found = fit(
        scores(values, groups=groups, units=units),
        max_false_alarm_rate=rate,
        group_by="camera" if by else None,
    )
    if found.promise.normals < (found.promise.needed or 0):
        return
    for value, group in zip(
        np.concatenate([values, rng.gamma(3, size=20) * 3]), groups + groups[:1] * 20, strict=True
    ):
        decision = found.decide(float(value), group)
        assert decision.is_anomalous == (decision.p_value <= rate + 1e-9)
        assert decision.is_anomalous == (decision.margin >= 0)
        assert decision.group == (group if by else None)


def test_p_values_of_new_normal_images_are_super_uniform() -> None:
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(60):
        found = fit(scores(rng.gamma(3, size=80)))
        p_values += [found.decide(float(value)).p_value for value in rng.gamma(3, size=80)]
    for level in (0.02, 0.05, 0.1, 0.3, 0.6):
        share = np.mean(np.array(p_values) <= level)
        assert share <= level + 0.025
        assert share >= level - 0.045  # and not far from uniform


def _cameras(rng: np.random.Generator, each: dict[str, int]) -> tuple[np.ndarray, list[str]]:
    """Scores that differ between cameras in location and in scale."""
    places = {"left": (0.0, 0.2), "right": (0.7, 0.4), "rare": (0.3, 0.3)}
    names = [name for name, number in each.items() for _ in range(number)]
    return np.array([np.exp(rng.normal(*places[name])) for name in names]), names


def test_groups_have_false_alarms_alike() -> None:
    rng = np.random.default_rng(2)
    rates: dict[str, list[float]] = {"left": [], "right": [], "rare": []}
    of_whole = []
    for _ in range(60):
        values, names = _cameras(rng, {"left": 300, "right": 100, "rare": 3})
        found = fit(scores(values, groups=names), max_false_alarm_rate=0.05, group_by="camera")
        for name, shares in rates.items():
            new, _ = _cameras(rng, {name: 300})
            shares.append(np.mean([found.decide(float(value), name).is_anomalous for value in new]))
        right, _ = _cameras(rng, {"right": 300})
        of_whole.append((right >= found.threshold).mean())
    for shares in rates.values():
        assert 0.025 <= np.mean(shares) <= 0.085
    assert (
        np.mean(of_whole) > 0.15
    )  # one threshold for all would flag so many of the camera that scores higher


def test_a_group_of_one_is_drawn_to_the_whole_where_groups_are_alike() -> None:
    values = np.random.default_rng(3).gamma(9, size=200)
    for alone in (4.0, 9.0, 14.0):
        found = fit(scores([*values, alone], groups=["many"] * 200 + ["one"]), group_by="camera")
        assert found.groups["one"].normals == 1
        assert found.groups["one"].threshold == pytest.approx(found.groups["many"].threshold, rel=0.25)


def test_a_group_of_one_far_from_all_others_is_on_a_scale_of_its_own() -> None:
    values = np.random.default_rng(3).gamma(9, size=200)
    found = fit(scores([*values, 900.0], groups=["many"] * 200 + ["one"]), group_by="camera")
    assert 900 < found.groups["one"].threshold < 9000
    assert found.groups["many"].threshold < 40


def test_an_image_of_no_known_group_is_decided_by_the_whole() -> None:
    values = np.random.default_rng(3).gamma(9, size=200)
    found = fit(scores(values, groups=["left", "right"] * 100), group_by="camera")
    assert found.decide(1.0, "left").group == "left"
    for unknown in ("never seen", None):
        decision = found.decide(1.0, unknown)
        assert decision.group is None
        assert decision.threshold == found.threshold
    assert "all values of `camera` together" in found.promise.sentence


def test_many_small_groups_keep_the_promise_together() -> None:
    rng = np.random.default_rng(5)
    flagged = []
    for _ in range(40):
        places = rng.normal(0, 1, 30)
        groups = np.repeat(np.arange(30), 5)
        values = np.exp(rng.normal(places[groups], 0.3))
        found = fit(
            scores(values, groups=[str(group) for group in groups]),
            group_by="camera",
            max_false_alarm_rate=0.1,
        )
        new = np.exp(rng.normal(places[groups], 0.3))
        flagged += [found.decide(float(v), str(g)).is_anomalous for v, g in zip(new, groups, strict=True)]
    assert 0.08 <= np.mean(flagged) <= 0.12


def test_a_single_normal_and_equal_normals_have_groups_too() -> None:
    for values in ([2.0], [2.0, 2.0, 2.0], [0.0, 0.0]):
        found = fit(scores(values, groups=["a"] * len(values)), group_by="camera")
        assert not any(found.decide(value, "a").is_anomalous for value in values)
        assert found.decide(2.1, "a").is_anomalous


def test_images_without_a_group_calibrate_the_whole() -> None:
    values = np.arange(1, 41)
    found = fit(scores(values, groups=[None] * 20 + ["a"] * 20), group_by="camera")
    assert set(found.groups) == {"a"}
    assert found.promise.normals == 40
    without = fit(scores(values), group_by="camera")
    assert not without.groups
    assert "No image that calibrates has a value of `camera`" in without.promise.sentence


def test_images_of_a_unit_count_once() -> None:
    units = ["same"] * 30 + [str(i) for i in range(10)]
    promise = fit(scores([9.0] * 30 + list(range(1, 11)), units=units)).promise
    assert promise.normals == 11
    assert promise.sentence.startswith("40 normal images of 11 units cannot promise")


def test_what_is_stored_comes_back_and_decides_the_same() -> None:
    rng = np.random.default_rng(4)
    values, names = _cameras(rng, {"left": 60, "right": 9})
    found = fit(scores(values, [9.0], groups=[*names, "left"]), group_by="camera")
    again = Decisions.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.digest == found.digest
    assert again.decide(1.5, "right") == found.decide(1.5, "right")
    assert again.settings is not None
    assert again.settings["group_by"] == "camera"


def test_the_digest_is_of_what_decides() -> None:
    found = fit(scores([1, 2, 3]))
    assert replace(found, data={}, created_at="later").digest == found.digest
    assert replace(found, threshold=2.0).digest != found.digest
    assert fit(scores([1, 2.5, 3])).digest != found.digest  # another p-value for 2.2


def test_false_alarms_that_a_promise_allows() -> None:
    promise = fit(scores(np.arange(1, 501))).promise
    low, high = false_alarm_interval(promise, 1000)
    assert low <= 10 <= high <= 30
    assert false_alarm_interval(replace(promise, rank=None), 7) == (0, 7)
