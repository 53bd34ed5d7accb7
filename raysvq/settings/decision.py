"""`decision`: from scores to decisions, and what the thresholds promise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from raysvq.settings.section import Section

Policy = Literal["max_false_alarm_rate", "min_recall", "cost", "paper", "manual"]
NEEDS_OUTLIERS: tuple[Policy, ...] = ("min_recall", "cost", "paper")


class DecisionSettings(Section):
    """Which scores are flagged. Stored with the model."""

    policy: Policy = Field(
        "max_false_alarm_rate",
        description="How the image threshold is chosen: max_false_alarm_rate, by normal images alone;"
        " min_recall, cost and paper (|specificity - sensitivity| smallest), by labelled outliers too;"
        " manual: decision.threshold.",
    )
    max_false_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="Share of good units that may be flagged."
    )
    confidence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="max_false_alarm_rate, min_recall: how sure the rate is to hold, over draws of the images"
        " that calibrate. None: it holds in expectation.",
    )
    min_recall: float = Field(0.95, gt=0, lt=1, description="Share of defective units that must be flagged.")
    miss_cost: float | None = Field(None, gt=0, description="cost: of a defective unit that passes.")
    false_alarm_cost: float | None = Field(None, gt=0, description="cost: of a good unit that is flagged.")
    defect_rate: float | None = Field(
        None, gt=0, lt=1, description="cost: share of units that are defective, before any is looked at."
    )
    threshold: float | None = Field(
        None, gt=0, description="manual: images with this score or more are flagged."
    )
    group_by: str | None = Field(
        None,
        min_length=1,
        description="Thresholds for each value of a manifest column: `group`, or a key of `meta` such as"
        " camera. Small groups are drawn to the whole. None: one threshold.",
    )
    pixel_false_alarm_rate: float = Field(
        0.001, gt=0, lt=1, description="Share of the map cells of normal images above the pixel threshold."
    )
    folds: int | None = Field(
        None,
        ge=0,
        description="Parts of the labelled images, each scored by a model without it: all normal images"
        " calibrate, and the final model, that of the last step, learns from train and validation. 0: the"
        " validation split calibrates. None: 5 with model.encoder=features, tiles.mode=whole, at most 2,000"
        " normal images and without training.patience, else 0.",
    )

    @model_validator(mode="after")
    def _what_the_policy_needs(self) -> DecisionSettings:
        if self.policy == "manual" and self.threshold is None:
            raise ValueError("policy=manual needs decision.threshold")
        if self.policy != "manual" and self.threshold is not None:
            raise ValueError(f"threshold is for policy=manual, found policy={self.policy}")
        if self.policy == "manual" and self.group_by is not None:
            raise ValueError("policy=manual has one threshold: leave group_by unset")
        if self.policy == "cost":
            missing = [
                n for n in ("miss_cost", "false_alarm_cost", "defect_rate") if getattr(self, n) is None
            ]
            if missing:
                raise ValueError(f"policy=cost needs {', '.join(f'decision.{name}' for name in missing)}")
        if self.folds == 1:
            raise ValueError("folds: expected 0, or at least 2")
        return self
