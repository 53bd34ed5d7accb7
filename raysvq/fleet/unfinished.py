"""Which cameras a run is about to commit, noted before it does, until its record is written.

A run that is killed behind a camera's commit leaves a ledger that lags. The next one finds its note, and
looks at the commit logs of the cameras that it names, whatever is new there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from raysvq import log
from raysvq.storage import join, list_objects, read_bytes, remove_file, write_bytes

UNFINISHED = "ledger/unfinished"  # folder below that of the fleet

Notes = Mapping[str, frozenset[str]]  # URI -> cameras


def note_unfinished(out: str, run_id: str, cameras: Iterable[str]) -> str:
    """Name the cameras that a run may commit; returns the URI of the note.

    Raises:
        StorageError: the place may not be written.
    """
    uri = join(out, UNFINISHED, f"{run_id}.json")
    write_bytes(uri, json.dumps({"cameras": sorted(cameras)}).encode())
    return uri


def find_unfinished(out: str) -> Notes:
    """The notes that are there. One that was cut off was of a run that had committed nothing.

    Raises:
        StorageError: the store does not answer.
    """
    uris = [info.uri for info in list_objects(join(out, UNFINISHED), must_exist=False)]
    return {uri: _cameras(uri) for uri in uris}


def clear_unfinished(notes: Notes, done: Collection[str]) -> None:
    """Remove the notes all of whose cameras are done: a record counts what was committed there.

    A note that stays, as it may not be removed, costs the next run a look at the commit logs it names.
    """
    for uri, cameras in notes.items():
        if cameras <= set(done):
            try:
                remove_file(uri)
            except OSError as error:
                log.warning(f"{uri} is left behind: {error}")


def _cameras(uri: str) -> frozenset[str]:
    try:
        return frozenset(map(str, json.loads(read_bytes(uri))["cameras"]))
    except (ValueError, KeyError, TypeError):
        return frozenset()
