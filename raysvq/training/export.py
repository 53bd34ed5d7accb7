"""Make a model bundle of a training that has ended."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysvq.data.manifest import open_manifest, spool
from raysvq.decisions import fit_decisions
from raysvq.errors import TrainingError
from raysvq.model.bundle import Bundle, make_bundle
from raysvq.model.bundle_summary import OPENVINO_DEVIATION, Reference
from raysvq.model.network import Network
from raysvq.schema import UNKNOWN
from raysvq.settings import Settings
from raysvq.storage import join, put_file
from raysvq.training.checkpoint import TrainingState
from raysvq.training.held_out import held_out, images_seen
from raysvq.training.metrics import summarise
from raysvq.training.validation import calibration_scores, digest_of_scores

TRAINING_IDS = "training_ids.parquet"
_IDS = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def export_bundle(
    model: Network,
    settings: Settings,
    state: TrainingState,
    history: list[dict[str, Any]],
    summary: dict[str, Any],
) -> Bundle:
    """Make a bundle of the selected model, with decisions from its validation.

    Args:
        state: of the checkpoint selected; its validation is cross-fitted where that was done.
        history: of all steps, also those after the checkpoint.
        summary: further values to store about the training.
    """
    outcome, seen = state.validation, images_seen(state.validation)
    summary = summary | ({} if seen is None else {"images_seen": seen.plain()})
    summary |= {"label_gain": outcome.get("label_gain")}
    summary |= {
        "steps": history[-1]["step"],
        "best_step": state.step,
        "workers": state.workers,
        "precision": state.precision,
        **summarise(history, settings.training.batch_size),
    }
    curves = {"history": history, "codebook_usage": state.codebook_usage}
    decisions = fit_decisions(
        calibration_scores(outcome), settings.decision, outcome["pixel_threshold"], _data(outcome, summary)
    )
    return make_bundle(model, settings, _reference(outcome, settings), decisions, summary, curves)


def write_training_ids(manifest: str, settings: Settings, splits: Sequence[str], out: str) -> None:
    """Write the ids of the images that a model learns from into its bundle.

    Args:
        splits: whose labelled images it learns from.
        out: the bundle's folder.
    """
    learnt = pc.field("split").isin(list(splits)) & (pc.field("label") != UNKNOWN)
    if settings.training.unlabelled:
        learnt = learnt | (pc.field("label") == UNKNOWN)
    batches = open_manifest(manifest).to_batches(columns=["image_id"], filter=learnt)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / TRAINING_IDS
        spool(({"image_id": one} for batch in batches for one in batch["image_id"].to_pylist()), local, _IDS)
        put_file(local, join(out, TRAINING_IDS))


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


def _data(outcome: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What calibrated: kept with the decisions."""
    folds = summary.get("folds", 0)
    return {
        "manifest": summary.get("manifest"),
        "scored_by": f"{folds} models, each without the images it scored" if folds else "the model",
        "images": len(outcome["image_ids"]),
        "digest": digest_of_scores(outcome),
    }


def _reference(outcome: dict[str, Any], settings: Settings) -> Reference:
    """Scores of normal images and outliers, from validation alone."""
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
            OPENVINO_DEVIATION: outcome.get(OPENVINO_DEVIATION),  # none in earlier checkpoints
            **held_out(outcome, settings.evaluation),
        },
        bfloat16_deviation=outcome["bfloat16_deviation"],
    )
