"""The format of a score directory: what a commit record holds, as types, with their JSON.

A record of a scoring run adds files and may replace some. A complete record, which `raysvq compact`
writes, carries all files that count: readers need none of the records before it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from raysvq.errors import DataError
from raysvq.schema import MAPS, REJECTS, SCORES

FORMAT = 2  # of the records written here; records of format 1 have no field `format`
COMMITS, IDS = "_commits", "_ids"  # folders below a score directory
SCHEMAS = {"scores": SCORES, "rejects": REJECTS, "maps": MAPS}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A Parquet file that a record names."""

    name: str  # below the score directory
    rows: int
    sha256: str = ""  # of its bytes; the earliest records had none
    size_bytes: int | None = None  # None in records of format 1

    def to_json(self) -> Json:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Json) -> File:
        """The reverse of `to_json`."""
        return cls(values["name"], values["rows"], values.get("sha256", ""), values.get("size_bytes"))


Files = dict[str, list[File]]  # by kind of result: scores, rejects, maps
Replaced = dict[str, str | None]  # name of a file that no longer counts -> of the one with its other rows


def no_files() -> Files:
    """An empty list for each kind."""
    return {kind: [] for kind in SCHEMAS}


def files_to_json(files: Mapping[str, Iterable[File]]) -> dict[str, list[Json]]:
    """Plain values."""
    return {kind: [file.to_json() for file in some] for kind, some in files.items()}


def files_from_json(values: Mapping[str, Iterable[Json]]) -> Files:
    """The reverse of `files_to_json`."""
    return {kind: [File.from_json(file) for file in values.get(kind, ())] for kind in SCHEMAS}


def count_rows(files: Mapping[str, Iterable[File]]) -> int:
    """Images that these files are about: rows of scores and of rejects."""
    return sum(file.rows for kind in ("scores", "rejects") for file in files.get(kind, ()))


def new_run_id() -> str:
    """An id that no run has had."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a record says of a scoring run, without its files."""

    run_id: str
    model_version: str
    model_digest: str
    settings_digest: str
    code_version: str
    precision: str
    created_at: str  # when it was committed, ISO 8601, UTC
    images: int  # that were to be scored
    scored: int
    rejected: int
    run_ids: tuple[str, ...]  # of the runs that scored its rows: this one, and interrupted ones
    heatmaps: tuple[str, ...] = ()  # names of the overlays of its highest scores, highest first
    engine: str | None = None  # None in records of earlier versions

    @classmethod
    def from_json(cls, values: Json) -> RunRecord:
        """From plain values; records of format 1 have the same names beside those of the commit."""
        given = {name: values[name] for name in _GIVEN}
        run_ids = tuple(values.get("run_ids") or [values["run_id"]])
        heatmaps = tuple(values.get("heatmaps", ()))
        return cls(**given, run_ids=run_ids, heatmaps=heatmaps, engine=values.get("engine"))


_GIVEN = [each.name for each in fields(RunRecord) if each.name not in ("run_ids", "heatmaps", "engine")]


@dataclass(frozen=True, slots=True)
class Commit:
    """A record: what it adds to a score directory, and what it takes the place of."""

    version: int  # its number; 0: of format 1
    runs: tuple[RunRecord, ...]  # its own; those of all records before it, in a complete one
    partition_by: tuple[str, ...]
    files: Files  # of its own rows; all that count, in a complete one
    kept: Files = field(default_factory=no_files)  # earlier rows, written anew without some
    replaced: Replaced = field(default_factory=dict)
    ids: tuple[File, ...] = ()  # one row for each row of scores and rejects in `files`
    settings: Json = field(default_factory=dict)
    complete: bool = False

    @property
    def rows(self) -> int:
        """Rows of its ids."""
        return count_rows(self.files)

    def to_json(self) -> bytes:
        """The record's content."""
        values = {
            "format": FORMAT,
            "version": self.version,
            "complete": self.complete,
            "runs": [asdict(run) for run in self.runs],
            "settings": self.settings,
            "partition_by": self.partition_by,
            "ids": [file.to_json() for file in self.ids],
            "files": files_to_json(self.files),
            "kept": files_to_json(self.kept),
            "replaced": self.replaced,
        }
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, values: Json, uri: str) -> Commit:
        """From a record's content, of this format or an earlier one.

        Raises:
            DataError: it is of a later format, or lacks a field.
        """
        version = values.get("format", 1)
        if version > FORMAT:
            raise DataError(
                f"{uri} has format {version}, of a later version of raysvq; this one reads formats up to"
                f" {FORMAT}: update raysvq"
            )
        try:
            return _from_format_1(values) if version == 1 else _from_format_2(values)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{uri} is damaged: its field {error} is missing or of another type") from None


def _from_format_1(values: Json) -> Commit:
    return Commit(
        version=0,
        runs=(RunRecord.from_json(values),),
        partition_by=tuple(values["partition_by"]),
        files=files_from_json(values["files"]),  # rewritten ones among them
        replaced={name: None for names in values["replaced"].values() for name in names},
        settings=values.get("settings", {}),
    )


def _from_format_2(values: Json) -> Commit:
    return Commit(
        version=values["version"],
        runs=tuple(map(RunRecord.from_json, values["runs"])),
        partition_by=tuple(values["partition_by"]),
        files=files_from_json(values["files"]),
        kept=files_from_json(values["kept"]),
        replaced=dict(values["replaced"]),
        ids=tuple(map(File.from_json, values["ids"])),
        settings=values["settings"],
        complete=values["complete"],
    )
