"""Reading a score directory: the committed files only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from raysvq.errors import DataError
from raysvq.results.commit_log import Snapshot, read_snapshot
from raysvq.results.format import COMMITS, SCHEMAS, Commit
from raysvq.storage import filesystem, join

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def read_results(scores: str) -> Snapshot:
    """What is committed now.

    Raises:
        DataError: no run has finished there.
    """
    snapshot = read_snapshot(scores)
    if not snapshot.commits:
        raise DataError(f"{scores} holds no finished scoring run (no record in {COMMITS}/)")
    return snapshot


def read_commits(scores: str) -> list[Commit]:
    """The commit records that readers need, oldest first: none before the newest complete one.

    Raises:
        DataError: there is none, so no run has finished there.
    """
    return list(read_results(scores).commits)


def committed_files(scores: str, kind: str) -> list[str]:
    """URIs of the committed files of a kind: `scores`, `rejects` or `maps`.

    Raises:
        DataError: no run has finished there.
    """
    return [join(scores, file.name) for file in read_results(scores).files(kind)]


def open_results(scores: str, kind: str) -> ds.Dataset:
    """An Arrow dataset over the committed files of a kind, nothing read yet.

    Columns that the results are partitioned by come after those of the kind's schema.

    Raises:
        DataError: no run has finished there.
    """
    return open_snapshot(read_results(scores), kind)


def open_snapshot(snapshot: Snapshot, kind: str) -> ds.Dataset:
    """`open_results` as of a version."""
    import pyarrow.dataset as ds  # brings pandas where that is installed, and workers need it not

    fs, folder = filesystem(snapshot.scores)
    paths = [filesystem(join(snapshot.scores, file.name))[1] for file in snapshot.files(kind)]
    parts = pa.schema([pa.field(name, pa.string()) for name in snapshot.partition_by])
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
