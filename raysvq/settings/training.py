"""`training`: length, pace and place of the training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from raysvq.settings.section import Section


class TrainingSettings(Section):
    """Length, pace and place of the training."""

    steps: int = Field(1500, ge=1, description="Optimiser steps; the paper takes 15,000.")
    batch_size: int = Field(128, ge=2, description="Tiles per step, over all workers.")
    outlier_fraction: float = Field(
        0.25, ge=0, lt=1, description="Fraction of a batch taken from labelled outliers, if there are any."
    )
    learning_rate: float = Field(
        1e-3, gt=0, description="Adam's learning rate at its peak, after a short warm-up; a cosine follows."
    )
    seed: int = Field(0, ge=0, description="Seed of weights, shuffles and codebook draws.")
    workers: int = Field(1, ge=1, description="Data-parallel workers.")
    min_workers: int | None = Field(
        None,
        ge=1,
        description="Start, and go on after a loss, with as few; others join when there is room. None: all.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU for each worker where the cluster has enough, else CPU."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of encoder and decoder; auto: bfloat16 on GPUs that have it, else float32."
        " Codebook, losses and validation are in float32.",
    )
    unlabelled: bool = Field(
        False, description="Take images without a label as normal, save those that objective.trim leaves out."
    )
    verified: bool = Field(
        True,
        description="Images labelled normal show no defect. false: some may, and are left out as unlabelled"
        " ones are: objective.trim is the share of those least like the others.",
    )
    positions_per_tile: int = Field(
        256,
        ge=1,
        description="features: grid positions of a tile that a step learns from, drawn at random; in labelled"
        " outliers the marked ones come first.",
    )
    outlier_copies: int = Field(
        0, ge=0, description="Copies of each labelled tile to learn from, slightly moved, scaled, brightened."
    )
    flips: bool = Field(True, description="Mirror batches at random; not for objects that face one way.")
    validate_every: int = Field(250, ge=1, description="Steps between validations and checkpoints.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many validations without a better AUROC; none: never. Not with"
        " decision.folds, where no validation image is left to stop by.",
    )
    validation_images: int = Field(512, ge=2, description="At most this many validation images are scored.")
    cache_mib: int = Field(
        512, ge=0, description="A worker keeps its tiles in memory after the first epoch, up to this size."
    )
    disk_cache_mib: int = Field(
        8192,
        ge=0,
        description="Tiles that do not fit cache_mib, or their features, are kept on the worker's local disk,"
        " in TMPDIR, up to this size; beyond it every epoch reads and computes them again.",
    )
    max_failures: int = Field(
        2, ge=0, description="Worker failures survived by restarting from a checkpoint."
    )

    @model_validator(mode="after")
    def _a_range(self) -> TrainingSettings:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers={self.min_workers} is more than workers={self.workers}")
        return self
