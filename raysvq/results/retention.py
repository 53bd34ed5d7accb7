"""Ending the retention of old results: partitions of dates before a day go, by a commit like any other.

The record names their files as replaced by none. A reader that opened before goes on reading them, as they
stay for the grace time of `raysvq compact`; one that opens after sees the other rows, all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from raysvq.results.commit_log import Snapshot, publish, read_snapshot
from raysvq.results.format import SCHEMAS, Commit, File, no_files
from raysvq.storage import require_put_if_absent

_DATE = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


def files_before(snapshot: Snapshot, day: date) -> list[File]:
    """The files that count, of rows of earlier dates; those of rows without a date are none of them."""
    return [
        file
        for kind in SCHEMAS
        for file in snapshot.files(kind)
        if (found := _DATE.search(file.name)) and date.fromisoformat(found[1]) < day
    ]


def drop_before(scores: str, day: date, require_held: Callable[[], None]) -> list[File]:
    """Commit that all rows of dates before a day are gone; returns the files that had them.

    Killed at any instant, readers see the rows before or after it.

    Args:
        scores: a score directory that is partitioned by `date`; of another nothing goes.
        require_held: raises where another run may have taken the folder over.

    Raises:
        DataError: another run has committed meanwhile.
        StorageError: the store does not answer, or may not be written.
    """
    snapshot = read_snapshot(scores)
    gone = files_before(snapshot, day)
    if gone:
        require_put_if_absent(scores)
        commit = Commit(
            version=snapshot.version + 1,
            runs=(),
            partition_by=snapshot.partition_by,
            files=no_files(),
            replaced={file.name: None for file in gone},
        )
        require_held()
        publish(scores, commit)
    return gone
