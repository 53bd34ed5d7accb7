"""Which cameras a run is about to commit, noted before it does, until its record is written.

A run that is killed behind a camera's commit leaves a ledger that lags. The next one finds its note, and
looks at the commit logs of the cameras that it names, whatever is new there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from raysvq import log
from raysvq.fleet.settings.cameras import Camera
from raysvq.storage import join, list_objects, read_bytes, remove_file, write_bytes

UNFINISHED = "ledger/unfinished"  # folder below that of the fleet

Noted = Mapping[str, Mapping[str, str]]  # camera -> fields of its template
Notes = Mapping[str, Noted]  # by URI


def note_unfinished(out: str, run_id: str, cameras: Iterable[Camera]) -> None:
    """Name the cameras that a run may commit.

    Raises:
        StorageError: the place may not be written.
    """
    fields = {camera.name: dict(camera.fields) for camera in cameras}
    write_bytes(join(out, UNFINISHED, f"{run_id}.json"), json.dumps({"cameras": fields}).encode())


def find_unfinished(out: str) -> Notes:
    """The notes that are there. One that was cut off was of a run that had committed nothing.

    Raises:
        StorageError: the store does not answer.
    """
    uris = [info.uri for info in list_objects(join(out, UNFINISHED), must_exist=False)]
    return {uri: _read(uri) for uri in uris}


def cameras_of(notes: Notes) -> Noted:
    """All that are noted."""
    return {name: fields for noted in notes.values() for name, fields in noted.items()}


def clear_unfinished(notes: Notes, done: Collection[str]) -> None:
    """Remove the notes all of whose cameras are done: a record counts what was committed there.

    A note that stays, as it may not be removed, costs the next run a look at the commit logs it names.
    """
    for uri, noted in notes.items():
        if noted.keys() <= set(done):
            try:
                remove_file(uri)
            except OSError as error:
                log.warning(f"{uri} is left behind: {error}")


def _read(uri: str) -> Noted:
    try:
        return {name: dict(fields) for name, fields in json.loads(read_bytes(uri))["cameras"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
