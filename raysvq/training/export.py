"""Make a model bundle of a training that has ended."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysvq.decisions import CalibrationScores, Decisions, fit_decisions
from raysvq.errors import TrainingError
from raysvq.model.bundle import Bundle, Reference, make_bundle
from raysvq.model.network import Network
from raysvq.settings import Settings
from raysvq.training.checkpoint import TrainingState
from raysvq.training.metrics import summarise

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def export_bundle(
    model: Network,
    settings: Settings,
    state: TrainingState,
    history: list[dict[str, Any]],
    summary: dict[str, Any],
) -> Bundle:
    """Make a bundle of the selected model, with thresholds from its validation.

    Args:
        state: of the checkpoint selected.
        history: of all steps, also those after the checkpoint.
        summary: further values to store about the training.
    """
    summary = summary | {
        "steps": history[-1]["step"],
        "best_step": state.step,
        "workers": state.workers,
        "precision": state.precision,
        **summarise(history, settings.training.batch_size),
    }
    curves = {"history": history, "codebook_usage": state.codebook_usage}
    outcome = state.validation
    data = {"manifest": summary.get("manifest"), "split": "validation"}
    decisions = _fit_decisions(outcome, settings, data)
    return make_bundle(model, settings, _reference(outcome), decisions, summary, curves)


def require_normals(outcome: dict[str, Any]) -> None:
    """Refuse a validation that found no normal image.

    Raises:
        TrainingError: none could be read.
    """
    if all(outcome["anomalous"]):
        raise TrainingError(
            "no normal validation image could be read, and the threshold is fitted on them;"
            f" {len(outcome['unreadable'])} failed, such as {outcome['unreadable'][:1]}"
        )


def _fit_decisions(outcome: dict[str, Any], settings: Settings, data: dict[str, Any]) -> Decisions:
    """Thresholds, from validation alone; each image is a unit of its own."""
    scores = np.array(outcome["image_scores"], np.float32)
    calibration = CalibrationScores(
        scores,
        np.array(outcome["anomalous"], bool),
        [None] * len(scores),
        [str(number) for number in range(len(scores))],
    )
    return fit_decisions(calibration, settings.decision, outcome["pixel_threshold"], data)


def _reference(outcome: dict[str, Any]) -> Reference:
    """Normal scores, from validation alone."""
    scores = np.array(outcome["image_scores"], np.float32)
    anomalous = np.array(outcome["anomalous"], bool)
    normals = scores[~anomalous]
    return Reference(
        normal_scores={str(level): float(np.quantile(normals, level)) for level in _QUANTILES},
        validation={
            "normal": int((~anomalous).sum()),
            "anomalous": int(anomalous.sum()),
            "auroc": outcome["auroc"],
            "unreadable": outcome["unreadable"],
        },
        bfloat16_deviation=outcome["bfloat16_deviation"],
    )
