"""Evaluate a model on its scores of the test split: metrics, `evaluation.json` and the report."""

from __future__ import annotations

from raysvq.data.manifest import open_manifest
from raysvq.data.sources.names import printable
from raysvq.errors import DataError
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.labelled_images import free_name
from raysvq.evaluation.result import Evaluation, MetricValue, to_json
from raysvq.model.alias import resolve
from raysvq.model.bundle import load_bundle
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings
from raysvq.storage import canonical, join, write_bytes

_METRICS = {
    "image AUROC": "image_auroc",
    "average precision": "average_precision",
    "tile AUROC": "tile_auroc",
    "pixel AUROC": "pixel_auroc",
    "AU-PRO": "au_pro",
}


def evaluate_model(
    manifest: str, scores: str, model: str, out: str, settings: EvaluationSettings
) -> tuple[Evaluation, str]:
    """Evaluate the scores of a model; write `evaluation.json` and `report.html` into `out`.

    Args:
        manifest: URI of the manifest.
        scores: URI of the folder that `raysvq score` wrote.
        model: URI of the bundle that made the scores, or an alias.
        out: URI of the folder for the two files.
        settings: of metrics and report.

    Returns:
        The evaluation and the report's URI.

    Raises:
        DataError, BundleError, StorageError: an input is missing, empty or damaged, another model made the
            scores of test images, or `out` cannot be written.
    """
    if not open_manifest(canonical(manifest)).count_rows():
        raise DataError(f"manifest {manifest} holds no image: there is nothing to evaluate")
    bundle = load_bundle(resolve(model))
    evaluation = evaluate(
        canonical(manifest), canonical(scores), settings, bundle.settings.tiles, bundle.model_digest
    )
    summary = {
        "created_at": bundle.created_at,
        "threshold_rule": bundle.decisions.promise.sentence,
        "validation_auroc": bundle.reference.validation["auroc"],
        "training": bundle.training,
        "model": bundle.settings.model.model_dump(mode="json"),
        "objective": bundle.settings.objective.model_dump(mode="json"),
    }
    report = join(canonical(out), "report.html")
    write_bytes(join(canonical(out), "evaluation.json"), to_json(evaluation).encode())
    render(evaluation, bundle.history, summary, report)
    return evaluation, report


def metrics_table(evaluation: Evaluation) -> str:
    """The metrics, overall and by defect type, as aligned text."""
    types = evaluation.by_defect_type
    rows = [(free_name("all", types), evaluation.overall)]
    rows += [(printable(name), metrics) for name, metrics in types.items()]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{name:>20}" for name in _METRICS)]
    for name, metrics in rows:
        cells = [_cell(getattr(metrics, field)) for field in _METRICS.values()]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _cell(metric: MetricValue) -> str:
    if metric.value is None:
        return "-"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.low:.2f}-{metric.high:.2f})"
