"""The records of a listing, as its file holds them: CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.listings.columns import is_manifest, require_columns
from raysvq.errors import DataError, first_line
from raysvq.storage import filesystem

LISTINGS = frozenset({".csv", ".parquet"})
_OTHER_LISTINGS = {
    **dict.fromkeys(
        (".manifest", ".jsonl", ".ndjson", ".json"), "a JSON listing, such as SageMaker Ground Truth makes"
    ),
    **dict.fromkeys((".tsv", ".tab"), "a file of tab-separated fields"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".gz", ".zip", ".zst", ".bz2"), "a compressed file"),
}


def listing_records(uri: str) -> Iterator[dict[str, Any]]:
    """Column -> value, for each row of a listing.

    Raises:
        DataError: it is no CSV or Parquet file, or its header or a line is wrong.
    """
    suffix = PurePosixPath(uri).suffix.lower()
    fs, path = filesystem(uri)
    if suffix == ".csv":
        with fs.open_input_stream(path) as stream:
            yield from _csv_records(stream, f"listing {uri}")
    elif suffix in LISTINGS:
        with fs.open_input_file(path) as stream:
            yield from _parquet_records(stream, f"listing {uri}")
    else:
        what = _OTHER_LISTINGS.get(suffix, "a file")
        raise DataError(f"{uri} is {what}, but not a .csv or .parquet listing; expected one, or a folder")


def _csv_records(stream: BinaryIO, where: str) -> Iterator[dict[str, Any]]:
    """UTF-8 with commas, as RFC 4180 has it. A quote that is never closed would swallow the rest: strict."""
    reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, [])
        require_columns(header, where)
        if is_manifest(header):
            raise DataError(f"{where}: the `meta` of a manifest is a map, which CSV has no form for")
        for line in reader:
            if not line:
                continue
            if len(line) != len(header):
                amount = "more" if len(line) > len(header) else "fewer"
                raise DataError(f"{where}: line {reader.line_num} has {amount} cells than the header")
            yield dict(zip(header, line, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: not readable as CSV near line {reader.line_num}, expected UTF-8 and commas: {error}"
        ) from None


def _parquet_records(stream: BinaryIO, where: str) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(stream)
        require_columns(file.schema_arrow.names, where)
        for batch in file.iter_batches():
            columns = [_values(column, name) for column, name in zip(batch, batch.schema.names, strict=True)]
            for row in zip(*columns, strict=True):
                yield dict(zip(batch.schema.names, row, strict=True))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not readable as Parquet: {first_line(error)}") from None
    except OverflowError as error:
        raise DataError(f"{where}: {error}") from None


def _values(column: pa.Array, name: str) -> list[Any]:
    """A column's values: dictionaries as what they stand for, times in microseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise OverflowError(f"the column {name!r} has values that Python has not: {error}") from None
    return values
