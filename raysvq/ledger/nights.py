"""Nights: what each run found and did at each camera, a file per run.

They count once the run's record is there. `merge_nights` puts those of many runs into one file, named by the
first and the last of their numbers; damaged ones are not in it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq import log
from raysvq.errors import first_line
from raysvq.ledger.records import NIGHTS, CameraNight, nights_from_table, nights_to_table, require_format
from raysvq.ledger.runs import NIGHTS_FOLDER, READERS, run_numbers, taken
from raysvq.storage import ObjectInfo, create_file, join, list_objects, read_bytes, write_bytes

_NAME = re.compile(r"(\d{20})(?:-(\d{20}))?\.parquet")
_RUNS = b"runs"  # metadata of a merged file: number and rows of each run, in their order


@dataclass(frozen=True)
class _Place:
    """Where the nights of a run are: in a file of its own, or in one of several runs."""

    info: ObjectInfo
    merged: bool


def nights_uri(out: str, first: int, last: int | None = None) -> str:
    """Of a run's nights, or of those of several."""
    name = f"{first:020d}" if last is None else f"{first:020d}-{last:020d}"
    return join(out, NIGHTS_FOLDER, f"{name}.parquet")


def write_nights(out: str, number: int, nights: Mapping[str, CameraNight] | Sequence[CameraNight]) -> str:
    """Create the nights of a run, which count once its record is there; returns their URI.

    Raises:
        DataError: another run has that number.
        StorageError: they cannot be written.
    """
    uri = nights_uri(out, number)
    given = nights.values() if isinstance(nights, Mapping) else nights
    buffer = io.BytesIO()
    pq.write_table(nights_to_table(list(given)), buffer, compression="zstd")
    if not create_file(uri, buffer.getvalue()):
        raise taken(uri)
    return uri


def read_nights(out: str, last: int = 30) -> list[list[CameraNight]]:
    """The nights of the last so many finished runs, the newest run last.

    Nights that were damaged, or are gone, are passed over with a warning.

    Raises:
        DataError: a later version of raysvq wrote them.
        StorageError: the store does not answer.
    """
    numbers = run_numbers(out)[-last:] if last > 0 else []
    places = _places(out, numbers)
    for number in numbers:
        if number not in places:
            log.warning(f"{nights_uri(out, number)} is gone; what that run did at its cameras is not known")
    merged = {place.info.uri: place.info for place in places.values() if place.merged}
    with ThreadPoolExecutor(READERS) as pool:
        whole = dict(zip(merged, pool.map(_read_merged, merged.values()), strict=True))
        tables = pool.map(
            lambda number: (
                whole[places[number].info.uri].get(number)
                if places[number].merged
                else _read(places[number].info)
            ),
            [number for number in numbers if number in places],
        )
        return [nights_from_table(table) for table in tables if table is not None]


def nights_apart(out: str, keep: int) -> list[int]:
    """Numbers of the finished runs, but the last `keep`, whose nights are in no file of several runs.

    Raises:
        StorageError: the store does not answer.
    """
    numbers = run_numbers(out)
    files = _files(out)
    alone = {first for first, last, _ in files if last is None}
    alone -= {number for first, last, _ in files if last for number in range(first, last + 1)}
    return [number for number in numbers[: max(len(numbers) - keep, 0)] if number in alone]


def merge_nights(out: str, numbers: Sequence[int]) -> str:
    """Put the nights of some runs into one file; returns its URI.

    The files they came of stay: `superseded_nights` names them. Readers see the same nights all the time.

    Raises:
        DataError: a later version of raysvq wrote some.
        StorageError: the store does not answer, or may not be written.
    """
    places = _places(out, numbers)
    with ThreadPoolExecutor(READERS) as pool:
        read = zip(places, pool.map(lambda place: _read(place.info), places.values()), strict=True)
        tables = {number: table for number, table in read if table is not None}
    rows = [[number, table.num_rows] for number, table in tables.items()]
    metadata = {**(NIGHTS.metadata or {}), _RUNS: json.dumps(rows).encode()}
    buffer = io.BytesIO()
    whole = pa.concat_tables([NIGHTS.empty_table(), *tables.values()]).replace_schema_metadata(metadata)
    pq.write_table(whole, buffer, compression="zstd")
    uri = nights_uri(out, numbers[0], numbers[-1])
    write_bytes(uri, buffer.getvalue())
    return uri


def superseded_nights(out: str) -> list[tuple[ObjectInfo, list[ObjectInfo]]]:
    """Each file of several runs, with the files whose nights it holds, which no reader needs.

    Raises:
        DataError: a later version of raysvq wrote one.
        StorageError: the store does not answer.
    """
    files = _files(out)
    merged = [info for _, last, info in files if last is not None]
    alone = {first: info for first, last, info in files if last is None}
    if not alone.keys() & {number for first, last, _ in files if last for number in range(first, last + 1)}:
        return []
    with ThreadPoolExecutor(READERS) as pool:
        held = zip(merged, pool.map(_read_merged, merged), strict=True)
        return [(info, [alone[number] for number in numbers if number in alone]) for info, numbers in held]


def _places(out: str, numbers: Sequence[int]) -> dict[int, _Place]:
    files = _files(out)
    found = {first: _Place(info, False) for first, last, info in files if last is None}
    for number in set(numbers) - found.keys():
        for first, last, info in files:
            if last is not None and first <= number <= last:
                found[number] = _Place(info, True)
    return {number: found[number] for number in numbers if number in found}


def _files(out: str) -> list[tuple[int, int | None, ObjectInfo]]:
    found = []
    for info in list_objects(join(out, NIGHTS_FOLDER), must_exist=False):
        if name := _NAME.fullmatch(info.uri.rpartition("/")[2]):
            found.append((int(name[1]), int(name[2]) if name[2] else None, info))
    return found


def _read(info: ObjectInfo) -> pa.Table | None:
    """None, with a warning, where it is damaged or gone."""
    try:
        table = pq.read_table(pa.BufferReader(read_bytes(info.uri)))
    except (FileNotFoundError, pa.ArrowException) as error:
        log.warning(f"{info.uri} is damaged or gone ({first_line(error)}); its nights are passed over")
        return None
    found = (table.schema.metadata or {}).get(b"format", b"").decode()
    require_format(int(found) if found.isdecimal() else None, info.uri)
    return table


def _read_merged(info: ObjectInfo) -> dict[int, pa.Table]:
    """By the number of the run."""
    table = _read(info)
    if table is None:
        return {}
    nights: dict[int, pa.Table] = {}
    start = 0
    for number, rows in json.loads((table.schema.metadata or {}).get(_RUNS, b"[]")):
        nights[number] = table.slice(start, rows)
        start += rows
    return nights
