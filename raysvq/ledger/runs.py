"""Records of a fleet's runs, numbered from 1; each is created once, when all else of its run is written."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

from raysvq import log
from raysvq.errors import DataError
from raysvq.ledger.records import FleetRun
from raysvq.storage import create_file, join, list_objects, read_bytes

RUNS, NIGHTS_FOLDER = "ledger/runs", "ledger/nights"  # below the fleet's folder

READERS = 16  # records read at once

_RECORD = re.compile(r"(\d{20})\.json")
_NIGHTS = re.compile(r"(?:\d{20}-)?(\d{20})\.parquet")


def run_uri(out: str, number: int, ending: str = "json") -> str:
    """Of a run's record, or with another ending of what lies beside it, such as its digest `md`."""
    return join(out, RUNS, f"{number:020d}.{ending}")


def next_number(out: str) -> int:
    """Of a run that starts now. One that was killed before its record leaves its number unused.

    Raises:
        StorageError: the store does not answer.
    """
    numbers = (*run_numbers(out), *_numbers(out, NIGHTS_FOLDER, _NIGHTS))
    return max(numbers, default=0) + 1


def run_numbers(out: str) -> list[int]:
    """Of all finished runs, rising.

    Raises:
        StorageError: the store does not answer.
    """
    return sorted(_numbers(out, RUNS, _RECORD))


def publish_run(out: str, run: FleetRun) -> str:
    """Create a run's record; returns its URI.

    Raises:
        DataError: another run has that number.
        StorageError: the record cannot be written.
    """
    uri = run_uri(out, run.number)
    if not create_file(uri, run.to_json()):
        raise taken(uri)
    return uri


def taken(uri: str) -> DataError:
    """That another run has written what this one was to."""
    return DataError(
        f"{uri} is there already: another run of this fleet has finished since this one began. What this one"
        " scored is committed, and the next run counts it; start it again"
    )


def read_runs(out: str, last: int) -> list[FleetRun]:
    """The last so many finished runs, oldest first; a record that was cut off is passed over with a warning.

    Raises:
        DataError: a record lacks a field, or a later version of raysvq wrote it.
        StorageError: the store does not answer.
    """
    numbers = run_numbers(out)[-last:] if last > 0 else []
    with ThreadPoolExecutor(READERS) as pool:
        return [run for run in pool.map(lambda number: _read(run_uri(out, number)), numbers) if run]


def _read(uri: str) -> FleetRun | None:
    content = read_bytes(uri)
    try:
        json.loads(content)
    except ValueError:
        log.warning(f"{uri} was cut off, or damaged: it is no JSON; the run is passed over")
        return None
    return FleetRun.from_json(content, uri)


def _numbers(out: str, folder: str, pattern: re.Pattern[str]) -> list[int]:
    names = (info.uri.rpartition("/")[2] for info in list_objects(join(out, folder), must_exist=False))
    return [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
