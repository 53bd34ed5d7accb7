"""What a scoring job leaves behind, and how to read it: committed files only.

<scores>/scores/part-….parquet    a row an image, see raysvq.schema.SCORES
<scores>/rejects/part-….parquet   images that could not be scored, with a reason
<scores>/maps/part-….parquet      anomaly maps of labelled images
<scores>/heatmaps/                overlays of anomalous images, and of each run's highest scores
<scores>/_commits/<run>.json      names the files of a finished run, with counts and digests

Where images changed and were scored again, the later run has written the files that held their rows
anew, without them, and its record names those that no longer count. Partitioned results have folders
such as site=north/date=2026-05-04 above the files.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from raysvq import schema
from raysvq.errors import DataError
from raysvq.storage import filesystem, join, list_objects, read_bytes

SCHEMAS = {"scores": schema.SCORES, "rejects": schema.REJECTS, "maps": schema.MAPS}
COMMITS = "_commits"


def find_commits(scores: str) -> list[dict[str, Any]]:
    """The commit records of a score directory, oldest first; none where no run has finished."""
    files = [file.uri for file in list_objects(join(scores, COMMITS), must_exist=False)]
    # A record cut off while it was written has another ending; hidden files are network file systems' own.
    records = [uri for uri in files if uri.endswith(".json") and not uri.rpartition("/")[2].startswith(".")]
    commits: list[dict[str, Any]] = [json.loads(read_bytes(uri)) for uri in records]
    return sorted(commits, key=lambda commit: commit["created_at"])


def read_commits(scores: str) -> list[dict[str, Any]]:
    """The commit records of a score directory, oldest first.

    Raises:
        DataError: there is none, so no run has finished there.
    """
    commits = find_commits(scores)
    if not commits:
        raise DataError(f"{scores} holds no finished scoring run (no record in {COMMITS}/)")
    return commits


def scoring_runs(commit: dict[str, Any]) -> list[str]:
    """Ids of the runs that scored a commit's rows: its own, and interrupted ones that it took over."""
    runs: list[str] = commit.get("run_ids", [commit["run_id"]])  # older records have none
    return runs


def current_files(commits: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The files of a kind that count after these commits: `name` below the score directory, `rows`."""
    replaced = {name for commit in commits for name in commit["replaced"][kind]}
    written = {file["name"]: file for commit in commits for file in commit["files"][kind]}
    return [written[name] for name in sorted(written.keys() - replaced)]


def committed_files(scores: str, kind: str) -> list[str]:
    """URIs of the committed files of a kind: `scores`, `rejects` or `maps`.

    Raises:
        DataError: no run has finished there.
    """
    return [join(scores, file["name"]) for file in current_files(read_commits(scores), kind)]


def open_results(scores: str, kind: str) -> ds.Dataset:
    """An Arrow dataset over the committed files of a kind, nothing read yet.

    Columns that the results are partitioned by come after those of the kind's schema.

    Raises:
        DataError: no run has finished there.
    """
    return open_committed(scores, read_commits(scores), kind)


def open_committed(scores: str, commits: list[dict[str, Any]], kind: str) -> ds.Dataset:
    """`open_results`, where the commit records have been read already."""
    fs, folder = filesystem(scores)
    paths = [filesystem(join(scores, file["name"]))[1] for file in current_files(commits, kind)]
    parts = pa.schema([pa.field(name, pa.string()) for name in commits[-1]["partition_by"]])
    return ds.dataset(
        paths,
        schema=pa.schema([*SCHEMAS[kind], *parts]),
        filesystem=fs,
        format="parquet",
        partitioning=ds.partitioning(parts, flavor="hive"),
        partition_base_dir=folder,
    )


def read_scores(scores: str, columns: list[str] | None = None) -> pa.Table:
    """The committed score rows as one table.

    Raises:
        DataError: no run has finished there.
    """
    return open_results(scores, "scores").to_table(columns=columns)
