"""Entries of the ledger, from what is committed: the score and reject rows of a camera's commits."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def entries_of_commit(camera: str, scores: str, version: int) -> Iterator[pa.Table]:
    """Rows of ENTRIES for `append_entries`: the images of one commit, some thousands at a time.

    Args:
        scores: the camera's score directory.

    Raises:
        DataError: the record, or a file that it names, is gone or damaged.
        StorageError: the store does not answer.
    """
    raise NotImplementedError


def entries_since(camera: str, scores: str, known: int) -> Iterator[pa.Table]:
    """Rows of ENTRIES: the images of all commits after version `known`, the earliest commit first.

    Raises:
        DataError: a record, or a file that it names, is gone or damaged.
        StorageError: the store does not answer.
    """
    raise NotImplementedError
