"""What a camera's new commits hold: entries for the ledger, counts, and rows to watch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysvq.fleet.planning.committed import entries_of_commit, entries_since
from raysvq.fleet.watch import COLUMNS
from raysvq.ledger.records import ENTRIES, SCORED, Worst
from raysvq.results import Commit
from raysvq.results.commit_log import read_record, record_uri
from raysvq.results.writer import read_file

MAX_ROWS = 2_000  # that a camera's night is watched by; of more, evenly spaced ones
WORST = 8  # highest scores that the page shows

_OF_WORST = ["image_id", "uri", "image_score", "p_value", "is_anomalous", "heatmap_uri"]
_FROM_MODEL = ("model_version", "model_digest", "settings_digest", "policy", "decisions_digest")
_HEATMAP = re.compile(r"\d+-([0-9a-f]{32})\.jpg$")


@dataclass(frozen=True)
class Committed:
    """The commits of a camera since its last night."""

    version: int  # of the newest
    scored: int = 0
    anomalous: int = 0
    rejects: dict[str, int] = field(default_factory=dict)  # images by reason
    rows: pa.Table | None = None  # the columns of watch.COLUMNS; at most MAX_ROWS
    worst: tuple[Worst, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)  # _FROM_MODEL, of the newest row


def read_committed(
    camera: str, scores: str, known: int, entered: int, version: int, enter: Callable[[pa.Table], None]
) -> Committed:
    """Read what the commits after version `known` hold, and enter into the ledger what it lacks.

    Args:
        scores: the camera's score directory.
        known: version as of the camera's last night.
        entered: version up to which all commits are in the ledger.
        version: of the newest commit.
        enter: takes rows of ENTRIES.

    Raises:
        DataError: a record, or a file that it names, is gone or damaged.
        StorageError: the store does not answer.
    """
    one = version == known + 1
    tables = entries_of_commit(camera, scores, version) if one else entries_since(camera, scores, known)
    outcomes: Counter[str] = Counter()
    anomalous = 0
    newest = ENTRIES.empty_table()
    for table in tables:
        later = table.filter(pc.greater(table["version"], entered))
        if later.num_rows:
            enter(later)
        counted = table["outcome"].value_counts().to_pylist()
        outcomes.update({each["values"]: each["counts"] for each in counted})
        anomalous += pc.sum(table["is_anomalous"]).as_py() or 0
        newest = table.slice(table.num_rows - 1)
    commits = list(_commits(scores, known, version))
    rows, worst = _rows(scores, commits)
    return Committed(
        version=version,
        scored=outcomes.pop(SCORED, 0),
        anomalous=anomalous,
        rejects=dict(outcomes),
        rows=rows,
        worst=worst,
        origin=newest.select(_FROM_MODEL).to_pylist()[0] if newest.num_rows else {},
    )


def _commits(scores: str, known: int, version: int) -> Iterator[Commit]:
    """The records after version `known`; those that a compaction has removed are left out."""
    for number in range(known + 1, version + 1):
        try:
            commit = read_record(record_uri(scores, number))
        except FileNotFoundError:
            continue
        if commit and not commit.complete:
            yield commit


def _rows(scores: str, commits: list[Commit]) -> tuple[pa.Table | None, tuple[Worst, ...]]:
    columns = [*COLUMNS, *(name for name in _OF_WORST if name not in COLUMNS)]
    tables = []
    for file in (file for commit in commits for file in commit.files["scores"]):
        try:
            tables.append(read_file(scores, file, columns))
        except FileNotFoundError:  # its rows were scored again, or merged, and their old file is gone
            continue
    if not tables:
        return None, ()
    table = pa.concat_tables(tables)
    drawn = {
        match[1]: name
        for commit in commits
        for run in commit.runs
        for name in run.heatmaps
        if (match := _HEATMAP.search(name))
    }
    return _spread(table.select(COLUMNS)), _worst(table.select(_OF_WORST), scores, drawn)


def _spread(table: pa.Table) -> pa.Table:
    if table.num_rows <= MAX_ROWS:
        return table
    return table.take(np.linspace(0, table.num_rows - 1, MAX_ROWS).astype(np.int64))


def _worst(table: pa.Table, scores: str, drawn: dict[str, str]) -> tuple[Worst, ...]:
    """The highest scores; heat maps by their names below the fleet's folder."""
    order = pc.sort_indices(table, [("image_score", "descending"), ("image_id", "ascending")])
    rows = table.take(order.slice(0, WORST)).to_pylist()
    out, folder, camera = scores.rsplit("/", 2)
    found = []
    for row in rows:
        uri = row.pop("heatmap_uri")
        name = drawn.get(row["image_id"])
        below = uri.removeprefix(f"{out}/") if uri else name and f"{folder}/{camera}/{name}"
        found.append(Worst(**row, heatmap=below))
    return tuple(found)
