"""Render the page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Template

from raysvq import storage
from raysvq.evaluation.labelled_images import free_name
from raysvq.evaluation.outcome import DIFFER
from raysvq.evaluation.result import Evaluation, OperatingPoint
from raysvq.report.evaluation import charts
from raysvq.report.evaluation.latents import view_latents
from raysvq.report.evaluation.page_data import page_data
from raysvq.report.evaluation.scale import BINS, score_scale
from raysvq.report.evaluation.thumbnails import draw_pictures, most_telling
from raysvq.report.evaluation.verdict import verdict
from raysvq.report.page import environment
from raysvq.report.svg import Chart

if TYPE_CHECKING:
    from raysvq.model.card import ModelCard
    from raysvq.model.latents import Latents

_RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of false alarms, in the table of thresholds


def render(
    evaluation: Evaluation,
    history: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
    out_uri: str,
    latents: Latents | None = None,
    card: ModelCard | None = None,
) -> None:
    """Write the report: one HTML file that needs nothing beside it.

    Args:
        evaluation: what to report. Pictures are drawn from the images, masks and maps that it names.
        history: of the training, `{"history": [...], "codebook_usage": [...]}`; None without a model.
        summary: plain values to print, such as `data`, `created_at` and a mapping `training`.
        out_uri: the URI of the file, `…/report.html`.
        latents: encodings and codes of test images; None leaves that section out.
        card: of the model; None leaves that section out.

    Raises:
        StorageError: the file cannot be written.
    """
    telling = most_telling(evaluation.images, evaluation.settings.gallery)
    pixel_threshold = None if evaluation.defects is None else evaluation.defects.pixel_threshold
    pictures = draw_pictures(evaluation.provenance.scores, telling, evaluation.map_range, pixel_threshold)
    scale = score_scale(evaluation)
    trade_off = _trade_off(evaluation.operating_points)
    data = page_data(evaluation, pictures, scale)
    html = _template().render(
        evaluation=evaluation,
        verdict=verdict(evaluation),
        scale=scale,
        shipped_at=scale and scale.share(evaluation.threshold or 1.0),
        bars=scale and {name: charts.bar_path(counts) for name, counts in asdict(scale.bars).items()},
        bins=BINS,
        data=data,
        megabytes=len(data.encode()) / 1e6,
        pictures_kept=len(pictures),
        pixel_threshold=pixel_threshold,
        roc=charts.roc_chart(evaluation),
        roc_corners=charts.roc_corners(),
        trade_off=trade_off,
        priced=any(point.cost is not None for point in trade_off),
        overall_name=free_name("all", evaluation.by_defect_type),
        summary={key: value for key, value in summary.items() if not isinstance(value, Mapping)},
        training={
            key: value
            for group in summary.values()
            if isinstance(group, Mapping)
            for key, value in group.items()
        },
        training_charts=_training_charts(history),
        has_history=history is not None,
        differ=DIFFER,
        latents=None if latents is None else view_latents(latents),
        card=card,
    )
    storage.write_bytes(out_uri, html.encode())


def _trade_off(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """For each rate of false alarms, the lowest threshold that keeps it: the one that finds most."""
    chosen: dict[float, OperatingPoint] = {}
    for rate in _RATES:
        kept = [p for p in points if p.false_alarm_rate is not None and p.false_alarm_rate <= rate]
        if kept:
            lowest = min(kept, key=lambda point: point.threshold)
            chosen[lowest.threshold] = lowest
    return list(chosen.values())


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
