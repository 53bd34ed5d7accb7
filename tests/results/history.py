"""A score directory that tests fill run by run, without a model or a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.results import SCHEMAS, Files, open_results, read_snapshot
from raysvq.results.done import find_done
from raysvq.results.format import no_files
from raysvq.results.rewrite import rewrite_without
from raysvq.results.writer import write_unit
from raysvq.storage import image_id
from tests.commits import ORIGIN, prepare

WHEN = datetime(2025, 3, 4, tzinfo=UTC)

Row = dict[str, Any]


def source(uri: str, size: int = 1) -> Row:
    """Which file an image is."""
    return {"image_id": image_id(uri), "uri": uri, "size_bytes": size, "etag": f"e{size}", "mtime": WHEN}


def score(uri: str, run: str, size: int = 1) -> Row:
    """A row of SCORES."""
    row = source(uri, size) | ORIGIN | {"run_id": run, "scored_at": WHEN, "heatmap_uri": None}
    row |= {"width": 8, "height": 8, "image_score": float(size), "map_max": 1.0, "map_mean": 1.0}
    return row | {
        "area_over_threshold": 0.0,
        "is_anomalous": False,
        "threshold": 2.0,
        "p_value": 0.5,
        "margin": size / 2 - 1,
        "policy": "paper",
        "decision_group": None,
        "decisions_digest": "dec1",
        "tiles": [],
        "regions": [],
    }


def reject(uri: str, run: str, size: int = 1) -> Row:
    """A row of REJECTS."""
    origin = source(uri, size) | ORIGIN | {"run_id": run, "scored_at": WHEN}
    return origin | {"reason": "empty", "detail": "0 bytes"}


def anomaly_map(uri: str) -> Row:
    """A row of MAPS."""
    sizes = dict.fromkeys(("map_height", "map_width", "width", "height", "span_width", "span_height"), 1)
    return {"image_id": image_id(uri), "values": b"\0\0\0\0"} | sizes


@dataclass
class History:
    """Runs on one folder; images are named by URI."""

    out: str
    partition_by: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)  # URI -> partition

    def begin(
        self, run: str, scored: list[str], rejected: list[str] | None = None, size: int = 1
    ) -> Callable[[], str]:
        """A run up to its commit, one file per image and kind; images that have rows are replaced."""
        files: Files = no_files()
        for number, uri in enumerate([*scored, *(rejected or [])]):
            good = uri in scored
            rows = {
                "scores": [score(uri, run, size)] if good else [],
                "maps": [anomaly_map(uri)] if good else [],
            }
            rows["rejects"] = [] if good else [reject(uri, run, size)]
            parts = {image_id(uri): self.folders[uri]} if uri in self.folders else {}
            for kind, some in write_unit(self.out, f"{run}-{number}", rows, parts).items():
                files[kind] += some
        done = self.done([*scored, *(rejected or [])])
        snapshot = read_snapshot(self.out)
        held = {row[name] for row in done.values() for name in ("file", "maps_file")} - {None}
        names = {snapshot.current_name(name) for name in held}
        gone = pa.array([row["image_id"] for row in done.values()], pa.string())
        kept, replaced = rewrite_without(
            self.out, gone, sorted(name for name in names if name), snapshot.version + 1
        )
        return prepare(self.out, ORIGIN | {"run_id": run}, files, kept, replaced, self.partition_by)

    def run(self, run: str, scored: list[str], rejected: list[str] | None = None, size: int = 1) -> None:
        """A run to its end."""
        self.begin(run, scored, rejected, size)()

    def done(self, uris: list[str], mend: bool = False) -> dict[str, Row]:
        """What the id index says of images: URI -> row; none of those that are not done."""
        with tempfile.TemporaryDirectory() as name:
            wanted = Path(name) / "wanted.parquet"
            schema = pa.schema([("image_id", pa.string()), ("uri", pa.string())])
            pq.write_table(pa.Table.from_pylist([source(uri) for uri in uris], schema=schema), wanted)
            rows = pq.read_table(find_done(read_snapshot(self.out), [wanted], Path(name), mend)).to_pylist()
        by_id = {row["image_id"]: row for row in rows}
        assert len(by_id) == len(rows)
        return {uri: by_id[image_id(uri)] for uri in uris if image_id(uri) in by_id}

    def seen(self) -> dict[str, list[Row]]:
        """All rows that readers see, by kind, in a fixed order."""
        tables = {kind: open_results(self.out, kind).to_table().to_pylist() for kind in SCHEMAS}
        return {kind: sorted(rows, key=lambda row: str(row["image_id"])) for kind, rows in tables.items()}

    def require_true_ids(self, uris: list[str]) -> None:
        """Every row that readers see is in the index once, with the file that holds it, and no other is."""
        done, snapshot = self.done(uris), read_snapshot(self.out)
        seen = self.seen()
        assert sorted(row["image_id"] for row in done.values()) == sorted(
            row["image_id"] for kind in ("scores", "rejects") for row in seen[kind]
        )
        for row in done.values():
            for column in ("file", "maps_file"):
                if row[column] is None:
                    continue
                name = snapshot.current_name(row[column])
                assert name is not None
                assert name in {file.name for file in snapshot.files(name.partition("/")[0])}
                held = pq.read_table(Path(self.out, name), columns=["image_id"], partitioning=None)[
                    "image_id"
                ]
                assert row["image_id"] in held.to_pylist()
