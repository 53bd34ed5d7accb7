"""When a training run steps, validates and keeps a checkpoint, and how fast it learns."""

from __future__ import annotations

import math
from typing import Any

from raysvq.settings import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear over the first 2 % of the steps, then half a cosine down to a twentieth of the peak."""
    warm_up = max(1, settings.steps // 50)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def next_stop(step: int, settings: TrainingSettings) -> int:
    """The step of the next validation."""
    return min((step // settings.validate_every + 1) * settings.validate_every, settings.steps)


def selection(row: dict[str, Any]) -> float:
    """What the model kept has most of: validation AUROC, the later of equals; without one, the latest.

    Args:
        row: of the history.
    """
    return (row["validation_auroc"] or 0.0) + 1e-9 * row["step"]


def best_step(history: list[dict[str, Any]]) -> int:
    """The step of the model kept."""
    step: int = max(history, key=selection)["step"]
    return step


def out_of_patience(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` validations with an AUROC brought no better one than those before."""
    aurocs = [row["validation_auroc"] for row in history if row["validation_auroc"] is not None]
    if patience is None or not aurocs:
        return False
    return len(aurocs) - 1 - aurocs.index(max(aurocs)) >= patience
