"""Decisions fitted anew on the scores that a model keeps."""

from __future__ import annotations

import numpy as np
import pytest

from raysvq.decisions import CalibrationScores, Decisions, fit_decisions, fixed_decisions, refit
from raysvq.errors import SettingsError
from raysvq.settings import DecisionSettings

TRAINED = DecisionSettings()


def _fitted(settings: DecisionSettings, count: int = 300) -> Decisions:
    scores = np.random.default_rng(1).lognormal(0, 0.3, count).astype(np.float32)
    groups = [("a", "b")[n % 2] for n in range(count)]
    units = [str(n) for n in range(count)]
    calibration = CalibrationScores(scores, np.zeros(count, bool), groups, units)
    return fit_decisions(calibration, settings, 0.5, {})


@pytest.mark.parametrize("group_by", [None, "camera"])
@pytest.mark.parametrize(
    "asked", [{"max_false_alarm_rate": 0.05}, {"max_false_alarm_rate": 0.2, "confidence": 0.9}, {}]
)
def test_it_decides_as_if_the_model_had_been_calibrated_so(
    group_by: str | None, asked: dict[str, float]
) -> None:
    model = _fitted(DecisionSettings(group_by=group_by))
    again = refit(model, TRAINED, DecisionSettings(**asked))
    wanted = _fitted(DecisionSettings(group_by=group_by, **asked))
    assert again.digest == wanted.digest
    assert again.groups == wanted.groups
    assert again.promise.sentence == wanted.promise.sentence
    assert again.pixel_threshold == model.pixel_threshold
    assert Decisions.from_json(again.to_json()).digest == again.digest


def test_one_threshold_may_take_the_place_of_groups() -> None:
    model = _fitted(DecisionSettings(group_by="camera"))
    again = refit(model, TRAINED, DecisionSettings(group_by=None))
    assert again.digest == _fitted(DecisionSettings()).digest


def test_settings_that_are_not_given_stay_the_models_own() -> None:
    model = _fitted(DecisionSettings(max_false_alarm_rate=0.1, confidence=0.95))
    again = refit(model, TRAINED, DecisionSettings(max_false_alarm_rate=0.2))
    assert again.settings is not None
    assert again.settings["confidence"] == 0.95


def test_of_scores_thinned_for_storage_the_threshold_is_never_lower() -> None:
    model = _fitted(TRAINED, 20_000)
    assert model.calibration is not None
    assert len(model.calibration.scores) < 20_000
    for rate in (0.3, 0.1, 0.01):
        again = refit(model, TRAINED, DecisionSettings(max_false_alarm_rate=rate))
        exact = _fitted(DecisionSettings(max_false_alarm_rate=rate), 20_000)
        assert exact.threshold <= again.threshold < exact.threshold * 1.01
        assert "20000 normal images" in again.promise.sentence


def test_a_threshold_by_hand_needs_no_scores() -> None:
    by_hand = DecisionSettings(policy="manual", threshold=2.5)
    old = fixed_decisions(1.0, 0.25, "as an earlier version had it", "quantile")
    again = refit(old, TRAINED, by_hand)
    assert (again.threshold, again.pixel_threshold, again.policy) == (2.5, 0.25, "manual")
    kept = refit(_fitted(TRAINED), TRAINED, by_hand)
    assert kept.threshold == 2.5
    assert kept.decide(3.0).p_value is not None
    assert "set to 2.5 by hand" in again.promise.sentence
    assert "set to 2.5 by hand" in kept.promise.sentence


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "min_recall"}, "`decision.policy`: min_recall needs scores of anomalous images"),
        ({"policy": "paper"}, "`decision.policy`: paper needs scores of anomalous images"),
        ({"group_by": "lens"}, "`decision.group_by`: found lens, but the model decides by no group"),
        ({"policy": "manual", "threshold": 1.0, "group_by": "lens"}, "leave group_by unset"),
    ],
)
def test_what_the_kept_scores_cannot_say_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        refit(_fitted(TRAINED), TRAINED, DecisionSettings.model_construct(**given, _fields_set=set(given)))


def test_a_model_without_scores_is_refused_with_what_to_do() -> None:
    old = fixed_decisions(1.0, 0.25, "as an earlier version had it", "quantile")
    with pytest.raises(SettingsError, match="the model has kept none; expected policy=manual"):
        refit(old, TRAINED, DecisionSettings(max_false_alarm_rate=0.1))
