"""Render the page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Template

from raysvq import storage
from raysvq.evaluation.labelled_images import free_name
from raysvq.evaluation.result import Evaluation, ImageRecord
from raysvq.report.evaluation import charts
from raysvq.report.evaluation.latents import view_latents
from raysvq.report.evaluation.thumbnails import draw_pictures
from raysvq.report.page import environment
from raysvq.report.svg import Chart

if TYPE_CHECKING:
    from raysvq.model.latents import Latents


def render(
    evaluation: Evaluation,
    history: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    out_uri: str,
    latents: Latents | None = None,
) -> None:
    """Write the report: one HTML file that needs nothing beside it.

    Args:
        evaluation: what to report. Thumbnails are drawn from the images, masks and maps that it names.
        history: of the training, `{"history": [...], "codebook_usage": [...]}`; None without a model.
        summary: plain values to print, such as `data`, `created_at` and a mapping `training`.
        out_uri: the URI of the file, `…/report.html`.
        latents: encodings and codes of test images; None leaves that section out.

    Raises:
        StorageError: the file cannot be written.
    """
    galleries = _galleries(evaluation)
    examples = [example for gallery in galleries.values() for example in gallery]
    html = _template().render(
        evaluation=evaluation,
        **galleries,
        overall_name=free_name("all", evaluation.by_defect_type),
        summary={key: value for key, value in summary.items() if not isinstance(value, Mapping)},
        training={
            key: value
            for group in summary.values()
            if isinstance(group, Mapping)
            for key, value in group.items()
        },
        pictures=draw_pictures(evaluation.provenance.scores, examples, evaluation.map_range),
        roc=charts.roc_chart(evaluation),
        scores=charts.score_chart(evaluation),
        training_charts=_training_charts(history),
        has_history=history is not None,
        latents=None if latents is None else view_latents(latents),
    )
    storage.write_bytes(out_uri, html.encode())


def _galleries(evaluation: Evaluation) -> dict[str, list[ImageRecord]]:
    ranked = sorted(evaluation.images, key=lambda image: -image.score)
    galleries = {
        "worst": ranked,
        "lowest_anomalous": [image for image in reversed(ranked) if image.anomalous],
        "highest_normal": [image for image in ranked if not image.anomalous],
    }
    return {name: images[: evaluation.settings.gallery] for name, images in galleries.items()}


def _training_charts(history: Mapping[str, Any] | None) -> dict[str, Chart]:
    if history is None:
        return {}
    steps = history["history"]
    drawn = {
        "Loss terms": charts.loss_chart(steps),
        "Validation AUROC": charts.auroc_chart(steps),
        "Perplexity and codes used": charts.codes_chart(steps),
        "Codebook usage": charts.usage_chart(history["codebook_usage"]),
    }
    return {title: chart for title, chart in drawn.items() if chart is not None}


@lru_cache(maxsize=1)
def _template() -> Template:
    return environment(Path(__file__).parent).get_template("evaluation.html")
