"""Rows of the tables in raysvq.schema: made from one image's result, and held until they are written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from raysvq.data.manifest import Row
from raysvq.decisions import Decisions
from raysvq.errors import first_line
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.signals import sample_codes
from raysvq.model.anomaly import find_regions, share_over
from raysvq.model.scorer import ImageResult
from raysvq.results.format import SCHEMAS, Files, no_files
from raysvq.results.writer import write_unit
from raysvq.schema import SOURCE_FIELDS
from raysvq.scoring.pending import OUTSIDE

BUFFER_BYTES = 64 * 2**20  # of rows in memory, about, after which they are written
_TILE_BYTES, _ROW_BYTES = 400, 2000  # of a tile, and of the rest of a row, as Python objects


def require_finite(result: ImageResult | DecodeError) -> ImageResult | DecodeError:
    """The result, or an error where it has a NaN: that is below every threshold, and would pass as normal."""
    if isinstance(result, DecodeError):
        return result
    values: dict[str, Any] = {
        "score": result.image_score,
        "map": result.anomaly_map,
        "tile scores": result.tile_scores,
    }
    broken = [name for name, value in values.items() if not np.isfinite(value).all()]
    return DecodeError("not_finite", f"{' and '.join(broken)} not finite") if broken else result


def score_row(source: Row, result: ImageResult, decisions: Decisions, origin: Row) -> Row:
    """A row of SCORES. `source` is the image's manifest row, with `decision_group` where it may have one."""
    size = (result.tiling.height, result.tiling.width)
    decision = decisions.decide(result.image_score, source.get("decision_group"))
    regions = find_regions(result.anomaly_map, decisions.pixel_threshold, result.span, size)
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
        "map_mean": float(result.map_values.mean()),
        "area_over_threshold": share_over(result.map_values, decisions.pixel_threshold),
        "is_anomalous": decision.is_anomalous,
        "threshold": decision.threshold,
        "p_value": decision.p_value,
        "margin": decision.margin,
        "policy": decisions.policy,
        "decision_group": decision.group,
        "decisions_digest": decisions.digest,
        "tiles": tiles,
        "regions": [vars(region) for region in regions],
        "heatmap_uri": None,
        **vars(result.signals),
        "codes": sample_codes(result.codes, source["image_id"]).tolist(),
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


@dataclass
class RowBuffer:
    """Rows of a work unit; written to files when they grow large, and at the end."""

    out: str
    name: str  # of the unit's files
    folders: dict[str, str]  # image id -> partition
    files: Files = field(default_factory=no_files)
    scored: int = 0
    anomalous: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of rejected images
    example: str = ""  # of a rejection for reasons outside the image: URI and detail
    _tables: dict[str, list[Row]] = field(default_factory=lambda: {kind: [] for kind in SCHEMAS})
    _bytes: int = 0

    def add_score(self, row: Row) -> None:
        """A row of SCORES."""
        self.scored += 1
        self.anomalous += row["is_anomalous"]
        self._add("scores", row, _ROW_BYTES + _TILE_BYTES * (len(row["tiles"]) + len(row["regions"])))

    def add_reject(self, row: Row) -> None:
        """A row of REJECTS."""
        self.reasons[row["reason"]] += 1
        if not self.example and row["reason"] in OUTSIDE:
            self.example = f"{row['uri']}: {row['detail']}"
        self._add("rejects", row, _ROW_BYTES)

    def add_map(self, row: Row) -> None:
        """A row of MAPS."""
        self._add("maps", row, len(row["values"]))

    def write(self) -> None:
        """Write the rows in memory.

        Raises:
            StorageError: the place may not be written.
        """
        for kind, files in write_unit(self.out, self.name, self._tables, self.folders).items():
            self.files[kind] += files
            self._tables[kind] = []
        self._bytes = 0

    def _add(self, kind: str, row: Row, size: int) -> None:
        self._tables[kind].append(row)
        self._bytes += size
        if self._bytes > BUFFER_BYTES:
            self.write()
