"""Rows of a work unit on their way to files."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from raysvq.results.format import SCHEMAS, Files, files_to_json
from raysvq.results.writer import write_unit
from raysvq.scoring.pending import OUTSIDE
from raysvq.scoring.rows import Row

HELD = 64 * 2**20  # bytes of rows in memory, about, after which they are written
_TILE, _ROW = 400, 2000  # bytes of a tile, and of the rest of a row, as Python holds them


@dataclass
class UnitRows:
    """What was found of a unit's images; written when it is much, and at the end."""

    out: str
    name: str  # of the unit's files
    folders: dict[str, str]  # image id -> partition
    tables: dict[str, list[Row]] = field(default_factory=lambda: {kind: [] for kind in SCHEMAS})
    files: Files = field(default_factory=lambda: {kind: [] for kind in SCHEMAS})
    anomalous: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    example: Row | None = None  # of a rejection for reasons outside the image
    held: int = 0
    scored: int = 0

    def add_score(self, row: Row) -> None:
        """A row of SCORES."""
        self.tables["scores"].append(row)
        self.scored += 1
        self.anomalous += row["is_anomalous"]
        self._hold(_ROW + _TILE * (len(row["tiles"]) + len(row["regions"])))

    def add_reject(self, row: Row) -> None:
        """A row of REJECTS."""
        self.tables["rejects"].append(row)
        self.reasons[row["reason"]] += 1
        if self.example is None and row["reason"] in OUTSIDE:
            self.example = {name: row[name] for name in ("uri", "reason", "detail")}
        self._hold(_ROW)

    def add_map(self, row: Row) -> None:
        """A row of MAPS."""
        self.tables["maps"].append(row)
        self._hold(len(row["values"]))

    def write(self) -> None:
        """Write what is held.

        Raises:
            StorageError: the place may not be written.
        """
        for kind, files in write_unit(self.out, self.name, self.tables, self.folders).items():
            self.files[kind] += files
            self.tables[kind] = []
        self.held = 0

    def report(self) -> dict[str, Any]:
        """Counts and files, once all is written."""
        return {
            "by": uuid.uuid4().hex,  # no two are equal, so that a receipt is of one of them
            "scored": self.scored,
            "reasons": dict(self.reasons),
            "anomalous": self.anomalous,
            "files": files_to_json(self.files),
            "example": self.example,
        }

    def _hold(self, size: int) -> None:
        self.held += size
        if self.held > HELD:
            self.write()
