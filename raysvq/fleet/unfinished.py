"""Which cameras a run is about to commit, noted before it does, until its record is written.

A run that is killed behind a camera's commit leaves a ledger that lags. The next one finds its note, and looks
at the commit logs of the cameras it names, whatever is new there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from raysvq.errors import DataError
from raysvq.storage import join, list_objects, read_bytes, remove_file, write_bytes

UNFINISHED = "ledger/unfinished"  # folder below that of the fleet


@dataclass(frozen=True)
class Unfinished:
    """What runs that did not come to their end have noted."""

    notes: tuple[str, ...]  # URIs
    cameras: frozenset[str]


def note_unfinished(out: str, run_id: str, cameras: Iterable[str]) -> str:
    """Name the cameras that a run may commit; returns the URI of the note.

    Raises:
        StorageError: the place may not be written.
    """
    uri = join(out, UNFINISHED, f"{run_id}.json")
    write_bytes(uri, json.dumps({"cameras": sorted(cameras)}).encode())
    return uri


def find_unfinished(out: str) -> Unfinished:
    """The notes that are there.

    Raises:
        DataError: one of them is damaged.
        StorageError: the store does not answer.
    """
    notes = [info.uri for info in list_objects(join(out, UNFINISHED), must_exist=False)]
    return Unfinished(tuple(notes), frozenset(name for uri in notes for name in _cameras(uri)))


def clear_unfinished(notes: Iterable[str]) -> None:
    """Remove notes, once a record counts what their runs committed.

    Raises:
        StorageError: one may not be removed.
    """
    for uri in notes:
        remove_file(uri)


def _cameras(uri: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(read_bytes(uri))["cameras"]]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{uri} is damaged: expected the cameras of a run as JSON. Without it the ledger may lack what that"
            " run committed: put it back, or write {\"cameras\": [...]} with all of them"
        ) from None
