"""One image's result as rows of the tables in raysvq.schema."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from raysvq import __version__
from raysvq.errors import first_line
from raysvq.imaging.decode import DecodeError
from raysvq.model.anomaly import find_regions, share_over
from raysvq.model.bundle import Bundle, Reference
from raysvq.model.device import Precision
from raysvq.model.scorer import ImageResult
from raysvq.schema import SOURCE_FIELDS

Row = dict[str, Any]


def provenance(bundle: Bundle, run_id: str, settings_digest: str, precision: Precision) -> Row:
    """The columns that say where a row came from; `scored_at` is added row by row."""
    return {
        "run_id": run_id,
        "model_version": bundle.model_version,
        "model_digest": bundle.model_digest,
        "settings_digest": settings_digest,
        "code_version": __version__,
        "precision": precision,
    }


def require_finite(result: ImageResult | DecodeError) -> ImageResult | DecodeError:
    """The result, or why it is none: what is not a number is below every threshold, and would pass."""
    if isinstance(result, DecodeError):
        return result
    values: dict[str, Any] = {
        "score": result.image_score,
        "map": result.anomaly_map,
        "tile scores": result.tile_scores,
    }
    broken = [name for name, value in values.items() if not np.isfinite(value).all()]
    return DecodeError("not_finite", f"{' and '.join(broken)} not finite") if broken else result


def score_row(source: Row, result: ImageResult, reference: Reference, origin: Row) -> Row:
    """A row of SCORES. `source` is the image's manifest row."""
    size = (result.tiling.height, result.tiling.width)
    regions = find_regions(result.anomaly_map, reference.pixel_threshold, result.span, size)
    tiles = [
        {"x": x, "y": y, "w": w, "h": h, "score": score}
        for (x, y, w, h), score in zip(
            result.tiling.rects().tolist(), result.tile_scores.tolist(), strict=True
        )
    ]
    return _dated(source, origin) | {
        "width": size[1],
        "height": size[0],
        "image_score": result.image_score,
        "map_max": float(result.anomaly_map.max()),
        "map_mean": float(result.anomaly_map.mean()),
        "area_over_threshold": share_over(result.anomaly_map, reference.pixel_threshold),
        "is_anomalous": bool(np.float32(result.image_score) >= np.float32(reference.image_threshold)),
        "threshold": reference.image_threshold,
        "tiles": tiles,
        "regions": [asdict(region) for region in regions],
        "heatmap_uri": None,
    }


def map_row(source: Row, result: ImageResult) -> Row:
    """A row of MAPS."""
    return {
        "image_id": source["image_id"],
        "map_height": result.anomaly_map.shape[0],
        "map_width": result.anomaly_map.shape[1],
        "width": result.tiling.width,
        "height": result.tiling.height,
        "span_width": result.span[1],
        "span_height": result.span[0],
        "values": result.anomaly_map.astype("<f4").tobytes(),
    }


def reject_row(source: Row, error: DecodeError | OSError, origin: Row) -> Row:
    """A row of REJECTS, with a reason of raysvq.imaging.decode.REASONS."""
    reason, detail = _reason(error)
    return _dated(source, origin) | {"reason": reason, "detail": detail}


def _dated(source: Row, origin: Row) -> Row:
    fields = {field.name: source[field.name] for field in SOURCE_FIELDS}
    return fields | origin | {"scored_at": datetime.now(UTC)}


def _reason(error: DecodeError | OSError) -> tuple[str, str]:
    if isinstance(error, DecodeError):
        return error.reason, error.detail
    detail = first_line(error)
    if isinstance(error, FileNotFoundError):
        return "not_found", detail
    if isinstance(error, PermissionError):
        return "access_denied", detail
    return "unreadable", detail
