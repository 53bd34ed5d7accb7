"""`tuning`: how `raysvq tune` searches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from raysvq.settings.section import Section


class TuningSettings(Section):
    """How `raysvq tune` searches. Never stored with a run."""

    trials: int = Field(16, ge=2, description="Trials of a sweep; the first has the settings as they are.")
    sampler: Literal["tpe", "qmc", "random", "grid"] = Field(
        "tpe",
        description="Optuna's sampler. tpe: learns from the trials that have ended; qmc: a"
        " Sobol sequence, evenly over the space; random; grid: all combinations.",
    )
    seed: int = Field(
        0,
        ge=0,
        description="Seed of the sampler: the same trials in the same order; with tpe only one at a time.",
    )
    points_to_evaluate: tuple[dict[str, Any], ...] = Field(
        (), description="Points to try right after the defaults, such as [{objective.eta: 0.9}]."
    )
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="Trials at once, at most; none: as many as the cluster has CPUs or GPUs for."
    )
    trials_per_gpu: int = Field(
        1, ge=1, description="Trials that share a GPU, and its memory; each takes a CPU, too."
    )
    metric: Literal["auto", "image_auroc", "tile_auroc", "au_pro", "synthetic_auroc"] = Field(
        "auto",
        description="Metric of trials, on validation. auto: image_auroc; without labelled outliers"
        " synthetic_auroc, the image AUROC of normal images against the same with drawn-on defects.",
    )
    repeats: int = Field(
        1, ge=1, description="Trainings of a trial, each on another draw of training and validation images."
    )
    early_stopping: bool = Field(
        True, description="Stop trials that fall behind the others (ASHA); the first one never."
    )
    max_train_s: float | None = Field(
        None, gt=0, description="A training that takes longer is not chosen; seconds."
    )
    max_image_ms: float | None = Field(
        None, gt=0, description="A model that takes longer is not chosen; CPU milliseconds per image."
    )
    max_model_mib: float | None = Field(
        None, gt=0, description="A model whose weights are larger is not chosen."
    )
    refit: bool = Field(
        False,
        description="Train the best settings on the labelled outliers of validation too; the threshold is"
        " then a quantile of the normal ones.",
    )
