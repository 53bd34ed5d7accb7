"""What a scoring job leaves behind, and how to read it: committed files only.

<scores>/scores/part-….parquet    a row an image, see raysvq.schema.SCORES
<scores>/rejects/part-….parquet   images that could not be scored, with a reason
<scores>/maps/part-….parquet      anomaly maps of labelled images
<scores>/_commits/<run>.json      names the files of a finished run, with counts
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
    # A record cut off while it was written has another ending.
    commits: list[dict[str, Any]] = [json.loads(read_bytes(uri)) for uri in files if uri.endswith(".json")]
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


def committed_files(scores: str, kind: str) -> list[str]:
    """URIs of the committed files of a kind: `scores`, `rejects` or `maps`."""
    names = {file["name"] for commit in read_commits(scores) for file in commit["files"][kind]}
    return [join(scores, name) for name in sorted(names)]


def open_results(scores: str, kind: str) -> ds.Dataset:
    """An Arrow dataset over the committed files of a kind, nothing read yet.

    Raises:
        DataError: no run has finished there.
    """
    fs, _ = filesystem(scores)
    paths = [filesystem(uri)[1] for uri in committed_files(scores, kind)]
    return ds.dataset(paths, schema=SCHEMAS[kind], filesystem=fs, format="parquet")


def read_scores(scores: str, columns: list[str] | None = None) -> pa.Table:
    """The committed score rows as one table.

    Raises:
        DataError: no run has finished there.
    """
    return open_results(scores, "scores").to_table(columns=columns)
