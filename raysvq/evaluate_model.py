"""Evaluate a model on its scores of the test split: metrics, the images behind them, and the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raysvq.data.manifest import open_manifest
from raysvq.data.sources.names import printable
from raysvq.errors import DataError
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.image_table import NAME, write_images
from raysvq.evaluation.labelled_images import free_name
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.result import Costs, Evaluation, MetricValue, to_json
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.card import make_card
from raysvq.model.latents import Latents, choose_images, collect_latents
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
    """Evaluate the scores of a model; write `evaluation.json`, `images.parquet` and `report.html`.

    Args:
        manifest: URI of the manifest.
        scores: URI of the folder that `raysvq score` wrote.
        model: URI of the bundle that made the scores, or an alias.
        out: URI of the folder for the files.
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
    decision = bundle.settings.decision
    evaluation = evaluate(
        canonical(manifest),
        canonical(scores),
        settings,
        bundle.settings.tiles,
        bundle.model_digest,
        bundle.decisions,
        Costs(decision.defect_rate, decision.miss_cost, decision.false_alarm_cost),
    )
    summary = {
        "created_at": bundle.created_at,
        "validation_auroc": bundle.reference.validation["auroc"],
        "training": {
            name: value for name, value in bundle.training.items() if not isinstance(value, Mapping)
        },  # the others are in the card
        "model": bundle.settings.model.model_dump(mode="json"),
        "objective": bundle.settings.objective.model_dump(mode="json"),
    }
    report = join(canonical(out), "report.html")
    write_images(evaluation, join(canonical(out), NAME))
    write_bytes(join(canonical(out), "evaluation.json"), to_json(evaluation).encode())
    render(evaluation, bundle.history, summary, report, _latents(evaluation, bundle), make_card(bundle))
    return evaluation, report


def _latents(evaluation: Evaluation, bundle: Bundle) -> Latents | None:
    """Encodings and codes of some test images; None where `evaluation.latent_images` is 0."""
    images = choose_images(evaluation.images, evaluation.settings.latent_images)
    return collect_latents(bundle, images, MaskReader().read) if images else None


def result_text(evaluation: Evaluation) -> str:
    """The result in short: metrics, decisions against what was promised, defects found."""
    return "\n".join([metrics_table(evaluation), *_decision_lines(evaluation)])


def metrics_table(evaluation: Evaluation) -> str:
    """The metrics, overall and by defect type, as aligned text."""
    types = evaluation.by_defect_type
    rows = [(free_name("all", types), evaluation.overall)]
    rows += [(printable(name), metrics) for name, metrics in types.items()]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{name:>20}" for name in [*_METRICS, "images found"])]
    for name, metrics in rows:
        cells = [_cell(getattr(metrics, field)) for field in _METRICS.values()]
        cells.append(f"{metrics.found} of {metrics.anomalous_images}" if metrics.anomalous_images else "-")
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def _decision_lines(evaluation: Evaluation) -> Iterator[str]:
    overall, defects = evaluation.overall, evaluation.defects
    if evaluation.promise:
        yield f"promise: {evaluation.promise.sentence}"
    if evaluation.outcome:
        yield f"outcome: {evaluation.outcome.sentence}"
    elif overall.normal_images:
        yield f"{overall.false_alarms} of {overall.normal_images} normal images are flagged"
    if defects and defects.defects:
        by_size = ", ".join(f"{band.found} of {band.defects} {band.name}" for band in defects.by_size)
        yield f"defects found: {defects.found} of {defects.defects} ({by_size})"
    if defects and defects.normal_images:
        rate = defects.false_regions / defects.normal_images
        yield f"regions per normal image: {rate:.3g}"
    yield from map(printable, evaluation.notes)


def _cell(metric: MetricValue) -> str:
    if metric.value is None:
        return "-"
    if metric.low is None or metric.high is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.low:.2f}-{metric.high:.2f})"
