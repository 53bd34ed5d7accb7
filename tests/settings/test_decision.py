"""Settings of decisions: what a policy needs, and what became of the quantiles."""

from __future__ import annotations

import pytest

from raysvq.errors import SettingsError
from raysvq.settings import load_settings, with_new_names
from raysvq.settings.refusals import COMPLEMENTS, describe


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["policy=manual"], "policy=manual needs decision.threshold"),
        (["threshold=2"], "threshold is for policy=manual, found policy=max_false_alarm_rate"),
        (["policy=manual", "threshold=2", "group_by=camera"], "policy=manual has one threshold"),
        (["policy=manual", "threshold=0"], "decision.threshold"),
        (["policy=cost", "miss_cost=9"], "needs decision.false_alarm_cost, decision.defect_rate"),
        (["policy=quantile"], "decision.policy"),
        (["max_false_alarm_rate=0"], "decision.max_false_alarm_rate"),
        (["max_false_alarm_rate=1"], "decision.max_false_alarm_rate"),
        (["confidence=1"], "decision.confidence"),
        (["folds=1"], "folds: expected 0, or at least 2"),
        (["group_by=''"], "decision.group_by"),
    ],
)
def test_what_cannot_be_is_named(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(None, [f"decision.{each}" for each in overrides])


@pytest.mark.parametrize(("old", "new"), COMPLEMENTS.items())
def test_an_old_quantile_is_refused_with_the_share_that_took_its_place(old: str, new: str) -> None:
    with pytest.raises(SettingsError, match=f"^setting `{old}` is now `{new}`, the share above it"):
        load_settings(None, [f"{old}=0.99"])
    assert new in {name for name, _, _ in describe()}


def test_stored_quantiles_are_read_as_shares() -> None:
    stored = {"anomaly": {"top_k": 3, "threshold_quantile": 0.95, "pixel_quantile": 0.999}, "model": {}}
    assert with_new_names(stored) == {
        "anomaly": {"top_k": 3},
        "model": {},
        "decision": {"max_false_alarm_rate": 0.05, "pixel_false_alarm_rate": 0.001},
    }
