"""Decisions fitted anew on the scores that a model has kept: without its images, and without the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raysvq.decisions.calibration import KeptScores, float32_from
from raysvq.decisions.decisions import Decisions, fixed_decisions, of_all_groups
from raysvq.decisions.groups import fit_group
from raysvq.decisions.policies import Sample, choose_threshold
from raysvq.decisions.promise import make_promise
from raysvq.errors import SettingsError
from raysvq.settings import DecisionSettings, merge_decision
from raysvq.settings.decision import NEEDS_OUTLIERS

_NO_OUTLIERS = Sample(np.zeros(0), np.zeros(0), 0)


def refit(decisions: Decisions, trained: DecisionSettings, given: DecisionSettings) -> Decisions:
    """Thresholds as other settings choose them; what is given takes the place of the model's own settings.

    The same input gives the same digest, on every machine. The pixel threshold stays.

    Args:
        decisions: of the model.
        trained: its settings, where its decisions have none.
        given: values that are set in them count.

    Raises:
        SettingsError: the model has not kept the scores that they need.
    """
    own = decisions.settings or trained.model_dump()
    settings = merge_decision(own, given)
    kept = decisions.calibration
    if kept is None:
        return _by_hand(decisions, settings)
    if settings.policy in NEEDS_OUTLIERS:
        raise SettingsError(
            f"setting `decision.policy`: {settings.policy} needs scores of anomalous images, and models keep"
            " those of normal images alone; expected max_false_alarm_rate or manual, or a model that `raysvq"
            " calibrate` has fitted so"
        )
    if settings.group_by not in (None, decisions.group_by):
        raise SettingsError(
            f"setting `decision.group_by`: found {settings.group_by}, but the model decides by"
            f" {decisions.group_by or 'no group'}; fit it with `raysvq calibrate`"
        )
    normal = _sample(kept)
    fitted = replace(
        decisions,
        policy=settings.policy,
        threshold=float32_from(choose_threshold(normal, _NO_OUTLIERS, settings)),
        groups={},
        group_by=settings.group_by,
        standardised=None,
        settings=settings.model_dump(mode="json"),
    )
    if settings.group_by is None or decisions.standardised is None:
        return replace(fitted, promise=make_promise(fitted.threshold, normal, _NO_OUTLIERS, settings))
    standardised = _sample(decisions.standardised)
    threshold = choose_threshold(standardised, _NO_OUTLIERS, settings)
    by_group = replace(
        fitted,
        promise=make_promise(threshold, standardised, _NO_OUTLIERS, settings),
        groups={
            name: fit_group(threshold, group.location, group.scale, group.normals)
            for name, group in decisions.groups.items()
        },
        standardised=decisions.standardised,
    )
    return of_all_groups(by_group)


def _by_hand(decisions: Decisions, settings: DecisionSettings) -> Decisions:
    if settings.threshold is None:
        raise SettingsError(
            f"setting `decision.policy`: {settings.policy} needs scores that calibrate, and the model has"
            " kept none; expected policy=manual with decision.threshold, or a model that `raysvq calibrate`"
            " has fitted"
        )
    sentence = f"The threshold was set to {settings.threshold:.6g} by hand, and promises no rate."
    fixed = fixed_decisions(settings.threshold, decisions.pixel_threshold, sentence, settings.policy)
    return replace(fixed, settings=settings.model_dump(mode="json"))


def _sample(kept: KeptScores) -> Sample:
    return Sample(np.array(kept.scores), np.array(kept.weights), kept.units, images=kept.units)
