"""Decisions on images: thresholds, p-values and what they promise, fitted once and kept with the model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from raysvq.decisions.calibration import (
    CalibrationScores,
    KeptScores,
    WeightedScores,
    float32_from,
    keep,
    split_by_label,
)
from raysvq.decisions.groups import GroupDecision, GroupScales, fit_group, fit_groups
from raysvq.decisions.policies import Sample, choose_threshold
from raysvq.decisions.promise import Promise, make_promise
from raysvq.errors import DataError
from raysvq.settings.decision import DecisionSettings


@dataclass(frozen=True)
class Decision:
    """What is decided about one image."""

    threshold: float
    is_anomalous: bool  # score >= threshold
    p_value: float | None  # share of good images that score as much; None: the model kept no scores
    margin: float  # score / threshold - 1
    group: str | None  # whose threshold decided; None: that of the whole


@dataclass(frozen=True)
class Decisions:
    """All that decides, with what it was fitted on."""

    policy: str
    threshold: float  # of the whole, exact in float32
    pixel_threshold: float  # map values above it make up regions
    promise: Promise
    groups: Mapping[str, GroupDecision] = field(default_factory=dict)
    group_by: str | None = None
    calibration: KeptScores | None = None  # scores of normal images
    standardised: KeptScores | None = None  # the same on the scale of all groups, where there are groups
    settings: Mapping[str, Any] | None = None  # of `decision`, that they were fitted with
    data: Mapping[str, Any] = field(default_factory=dict)  # what calibrated
    created_at: str = ""  # ISO 8601, UTC

    def __post_init__(self) -> None:
        """Refuse a threshold that no score can reach. Raises DataError."""
        thresholds: dict[str, Any] = {"threshold": self.threshold, "pixel_threshold": self.pixel_threshold}
        thresholds |= {f"threshold of group {name!r}": group.threshold for name, group in self.groups.items()}
        for name, value in thresholds.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise DataError(f"{name} is {value}, expected a finite number")

    def decide(self, score: float, group: str | None = None) -> Decision:
        """Decide about an image by its score, compared in float32, and the group it belongs to, if known."""
        score = float(np.float32(score))
        known = self.groups.get(group) if group is not None else None
        threshold = known.threshold if known else self.threshold
        kept, compared = (self.standardised, known.standardise(score)) if known else (self.calibration, score)
        return Decision(
            threshold,
            score >= threshold,
            kept.p_value(compared) if kept else None,
            score / threshold - 1 if threshold > 0 else math.inf,
            group if known else None,
        )

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over all that decides: not over its data, date or promise."""
        values = self.to_json()
        decides = {name: value for name, value in values.items() if name not in _DECIDES_NOTHING}
        canonical = json.dumps(decides, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Decisions:
        """The reverse of `to_json`.

        Raises:
            DataError: a threshold is not finite.
            KeyError, TypeError: a field is missing, unknown or of another type.
        """
        kept = {name: _kept(values[name]) for name in ("calibration", "standardised")}
        groups = {name: GroupDecision(**group) for name, group in values["groups"].items()}
        return cls(**{**values, **kept, "groups": groups, "promise": Promise(**values["promise"])})


def fixed_decisions(threshold: float, pixel_threshold: float, sentence: str, policy: str) -> Decisions:
    """Thresholds without calibration scores: no p-values, nothing promised.

    Args:
        threshold: smallest score that is flagged, rounded to float32 as score rows have it.
        sentence: where they come from.
        policy: the same in a word.
    """
    promise = Promise(policy, None, None, None, 0, None, None, None, sentence)
    return Decisions(policy, float(np.float32(threshold)), pixel_threshold, promise)


_DECIDES_NOTHING = ("promise", "settings", "data", "created_at")


def _kept(values: Mapping[str, Any] | None) -> KeptScores | None:
    if values is None:
        return None
    return KeptScores(tuple(values["scores"]), tuple(values["weights"]), values["units"])


def fit_decisions(
    calibration: CalibrationScores,
    settings: DecisionSettings,
    pixel_threshold: float,
    data: Mapping[str, Any],
) -> Decisions:
    """Fit thresholds on images that the model has not learnt from.

    Args:
        pixel_threshold: map values above it make up regions.
        data: what calibrated, such as the manifest and its digest; plain values, kept with the decisions.

    Raises:
        DataError: no image is normal, a score is not finite, or the policy needs outliers that are not there.
    """
    normals, outliers = split_by_label(calibration)
    normal, outlying = (Sample(part.scores, part.weights, part.count) for part in (normals, outliers))
    threshold = float32_from(choose_threshold(normal, outlying, settings))
    decisions = Decisions(
        settings.policy,
        threshold,
        pixel_threshold,
        make_promise(threshold, normal, outlying, settings),
        group_by=settings.group_by,
        calibration=keep(normal.scores, normal.weights, normal.units),
        settings=settings.model_dump(mode="json"),
        data=data,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if settings.group_by is None:
        return decisions
    if all(group is None for group in normals.groups):
        return _saying(
            decisions, f"No image that calibrates has a value of `{settings.group_by}`: all are one group."
        )
    scales, standardised = fit_groups(normals)
    return _with_groups(decisions, scales, replace(normal, scores=standardised), outliers, settings)


def _with_groups(
    decisions: Decisions,
    scales: GroupScales,
    normal: Sample,
    outliers: WeightedScores,
    settings: DecisionSettings,
) -> Decisions:
    """Decisions with a threshold for each group: the same standardised score."""
    outlying = Sample(scales.standardise(outliers), outliers.weights, outliers.count)
    threshold = choose_threshold(normal, outlying, settings)
    decisions = replace(decisions, promise=make_promise(threshold, normal, outlying, settings))
    by_group = replace(
        decisions,
        groups={
            name: fit_group(threshold, *values)
            for name, *values in zip(
                scales.names,
                scales.locations[:-1].tolist(),
                scales.scales[:-1].tolist(),
                scales.normals.tolist(),
                strict=True,
            )
        },
        standardised=keep(normal.scores, normal.weights, normal.units),
    )
    return of_all_groups(by_group)


def of_all_groups(decisions: Decisions) -> Decisions:
    """The same decisions, whose promise says that it is of all groups together."""
    name = decisions.group_by
    return _saying(decisions, f"This is of all values of `{name}` together; each has a threshold of its own.")


def _saying(decisions: Decisions, sentence: str) -> Decisions:
    """The same decisions, with a sentence more."""
    promise = decisions.promise
    return replace(decisions, promise=replace(promise, sentence=f"{promise.sentence} {sentence}"))
