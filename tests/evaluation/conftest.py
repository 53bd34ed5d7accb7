"""A small labelled image set with the score folder a run over it would have left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq import schema, storage

CELL = 8  # pixels along the side of a map cell
WHEN = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
ORIGIN = {"size_bytes": 1, "etag": None, "mtime": WHEN}
RUN = {
    "run_id": "run-1",
    "model_version": "plates-1",
    "model_digest": "d" * 16,
    "settings_digest": "s" * 16,
    "code_version": "0.1.0",
    "precision": "float32",
}


@dataclass
class ScoredSet:
    """Collects images and their results; `commit` writes manifest and score folder."""

    root: Path
    threshold: float = 3.0
    manifest_rows: list[dict[str, Any]] = field(default_factory=list)
    score_rows: list[dict[str, Any]] = field(default_factory=list)
    reject_rows: list[dict[str, Any]] = field(default_factory=list)
    map_rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def manifest(self) -> str:
        return str(self.root / "manifest.parquet")

    @property
    def scores(self) -> str:
        return str(self.root / "scores")

    def list_image(self, name: str, label: str, split: str = "test", **more: Any) -> str:
        """Add a manifest row, return the image id."""
        uri = str(self.root / name)
        row = {"mask_uri": None, "group": None, "defect_type": None, "captured_at": None, "meta": None}
        [info] = storage.file_infos([uri])
        found = {"size_bytes": info.size_bytes, "etag": info.etag, "mtime": info.mtime} if info else ORIGIN
        row |= {**found, "image_id": storage.image_id(uri), "uri": uri, "label": label, "split": split}
        self.manifest_rows.append(row | more)
        return storage.image_id(uri)

    def reject(self, image_id: str, reason: str, detail: str) -> None:
        row = {**self._source(image_id), "reason": reason, "detail": detail, **RUN, "scored_at": WHEN}
        self.reject_rows.append(row)

    def score(
        self,
        image_id: str,
        score: float,
        size: tuple[int, int],
        tiles: list[tuple[int, ...]],
        tile_scores: list[float],
        **more: Any,
    ) -> None:
        """Add a score row; `tiles` are x, y, w, h, and `more` takes the place of its values."""
        cells = [
            dict(zip("xywh", rect, strict=True)) | {"score": value}
            for rect, value in zip(tiles, tile_scores, strict=True)
        ]
        row = {"width": size[1], "height": size[0], "image_score": score, "map_max": score, "map_mean": 0.5}
        row |= {"area_over_threshold": 0.0, "is_anomalous": score >= self.threshold, "heatmap_uri": None}
        row |= {"threshold": self.threshold, "tiles": cells, "regions": []}
        self.score_rows.append({**self._source(image_id), **row, **RUN, "scored_at": WHEN, **more})

    def keep_map(self, image_id: str, values: np.ndarray, size: tuple[int, int], cell: int = CELL) -> None:
        height, width = values.shape
        row = {
            "image_id": image_id,
            "map_height": height,
            "map_width": width,
            "height": size[0],
            "width": size[1],
        }
        row |= {
            "span_height": height * cell,
            "span_width": width * cell,
            "values": values.astype("<f4").tobytes(),
        }
        self.map_rows.append(row)

    def commit(self, run: dict[str, Any] | None = None) -> None:
        pq.write_table(pa.Table.from_pylist(self.manifest_rows, schema.MANIFEST), self.manifest)
        run = {**RUN, **(run or {})}
        files = {}
        tables = {"scores": schema.SCORES, "rejects": schema.REJECTS, "maps": schema.MAPS}
        rows = {"scores": self.score_rows, "rejects": self.reject_rows, "maps": self.map_rows}
        for kind, table_schema in tables.items():
            name = f"{kind}/part-{run['run_id']}.parquet"
            path = Path(self.scores, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows[kind], table_schema), path)
            files[kind] = [{"name": name, "rows": len(rows[kind])}] if rows[kind] else []
        counts = {"scored": len(self.score_rows), "rejected": len(self.reject_rows)}
        record = {
            **run,
            "created_at": WHEN.isoformat(),
            "files": files,
            "replaced": {kind: [] for kind in files},
            "partition_by": [],
            "images": sum(counts.values()),
            **counts,
        }
        commits = Path(self.scores, "_commits")
        commits.mkdir(exist_ok=True)
        (commits / f"{run['run_id']}.json").write_text(json.dumps(record))

    def _source(self, image_id: str) -> dict[str, Any]:
        row = next(row for row in self.manifest_rows if row["image_id"] == image_id)
        return {name: row[name] for name in ("image_id", "uri", "size_bytes", "etag", "mtime")}


@pytest.fixture
def scored_set(tmp_path: Path) -> ScoredSet:
    """An empty set to fill."""
    return ScoredSet(tmp_path)


@pytest.fixture
def plates(tmp_path: Path) -> Callable[..., ScoredSet]:
    """Builds brushed plates with scratches and pits, scored by a rough stand-in for a model."""

    def build(normal: int = 6, anomalous: int = 6, size: tuple[int, int] = (120, 136)) -> ScoredSet:
        return fill_with_plates(ScoredSet(tmp_path), normal, anomalous, size)

    return build


def fill_with_plates(target: ScoredSet, normal: int, anomalous: int, size: tuple[int, int]) -> ScoredSet:
    rng = np.random.default_rng(7)
    for number in range(normal + anomalous):
        bad = number >= normal
        kind = ("scratch", "pit")[number % 2] if bad else None
        image, mask = _plate(rng, size, kind)
        name, mask_uri = f"plate-{number:03}.png", None
        cv2.imwrite(str(target.root / name), image)
        if bad:
            mask_uri = str(target.root / f"mask-{number:03}.png")
            cv2.imwrite(mask_uri, mask.astype(np.uint8) * 255)
        label = schema.ANOMALOUS if bad else schema.NORMAL
        image_id = target.list_image(name, label, mask_uri=mask_uri, defect_type=kind)
        values = _stand_in(rng, mask, rng.uniform(0.5, 6) if bad else 0)
        target.keep_map(image_id, values, size)
        top = float(np.sort(values.ravel())[-16:].mean())
        tiles, tile_scores = _tiles(values, size)
        target.score(image_id, top, size, tiles, tile_scores)
    return target


def _plate(
    rng: np.random.Generator, size: tuple[int, int], kind: str | None
) -> tuple[np.ndarray, np.ndarray]:
    height, width = size
    grain = cv2.GaussianBlur(rng.normal(0, 26, size).astype(np.float32), (0, 0), 6, sigmaY=0.5)
    image = 150 + 4 * grain + np.linspace(-18, 18, width)[None] + rng.normal(0, 3, size)
    mask = np.zeros(size, np.uint8)
    if kind == "scratch":
        ends = rng.uniform(0.15, 0.85, 4) * [width, height, width, height]
        start, stop = ends[:2].astype(int).tolist(), ends[2:].astype(int).tolist()
        cv2.line(mask, start, stop, 1, max(2, height // 90))
    if kind == "pit":
        centre = (rng.uniform(0.25, 0.75, 2) * [width, height]).astype(int).tolist()
        cv2.circle(mask, centre, int(rng.uniform(0.04, 0.1) * height), 1, -1)
    image -= 70 * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1)
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(bool)


def _stand_in(rng: np.random.Generator, mask: np.ndarray, strength: float) -> np.ndarray:
    rows, columns = -(-mask.shape[0] // CELL), -(-mask.shape[1] // CELL)
    padded = np.zeros((rows * CELL, columns * CELL), np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    share = padded.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))
    return np.asarray(1 + rng.gamma(2, 0.35, share.shape) + strength * np.sqrt(share), np.float32)


def _tiles(values: np.ndarray, size: tuple[int, int]) -> tuple[list[tuple[int, ...]], list[float]]:
    tiles, scores = [], []
    for y in range(0, size[0] - 31, 32):
        for x in range(0, size[1] - 31, 32):
            tiles.append((x, y, 32, 32))
            part = values[y // CELL : y // CELL + 4, x // CELL : x // CELL + 4]
            scores.append(float(np.sqrt((part**2).sum())))
    return tiles, scores
