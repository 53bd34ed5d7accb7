"""Records of a CSV or Parquet listing, and the check of its header.

A column whose name is nearly that of a known one is refused: else a slip of the pen would make it metadata.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.errors import DataError, first_line
from raysvq.schema import MANIFEST
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

KNOWN_COLUMNS = ("uri", "label", "mask_uri", "split", "group", "defect_type", "captured_at")

_ALSO_CALLED = {
    "uri": "image image_uri image_path image_file image_url image_name img img_path path file file_path"
    " file_name filename url location source source_ref s3_uri s3_path s3_key key",
    "label": "class class_label target anomaly anomalous is_anomaly is_anomalous is_normal is_defect"
    " is_defective defective ok_ng label_name label_index",
    "mask_uri": "mask mask_path mask_file mask_url mask_name gt gt_path gt_mask ground_truth"
    " ground_truth_path groundtruth segmentation segmentation_path annotation_path",
    "split": "subset partition fold train_test",
    "group": "group_id group_name grouping",
    "defect_type": "defect defect_class defect_kind defect_name anomaly_type anomaly_class type_of_defect",
    "captured_at": "captured capture_time capture_date captured_on timestamp time_stamp datetime date_time"
    " taken_at acquired_at acquisition_time recorded_at",
}
_BARE = {known.replace("_", ""): known for known in KNOWN_COLUMNS}
_MEANT = {re.sub("_", "", other): name for name, others in _ALSO_CALLED.items() for other in others.split()}


def listing_records(uri: str) -> Iterator[dict[str, Any]]:
    """Column -> value, for each row of a listing.

    Raises:
        DataError: the file is no CSV or Parquet, or its header or a line is wrong.
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
    """UTF-8 with commas, as in RFC 4180. Strict: a quote that is never closed would swallow the rest."""
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
    """The values of a column: dictionaries decoded, times in microseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise OverflowError(f"the column {name!r} has values that Python has not: {error}") from None
    return values


def require_columns(names: Sequence[str], where: str) -> None:
    """Check the header of a listing.

    Metadata may have any name that cannot be taken for a known column.

    Raises:
        DataError: a column is missing, stands twice or is nearly called like a known one.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{where}: the column {twice[0]!r} stands {Counter(names)[twice[0]]} times")
    if "uri" not in names:
        raise DataError(f"{where}: no column `uri`; found {', '.join(names) or 'none'}{_hint(names)}")
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"{where}: column {place} has no name; pandas writes its index so, without `index=False`"
            )
        if meant := _meant(name, names):
            raise DataError(
                f"{where}: the column {name!r} is to be called `{meant}`, or, if it is metadata, by a name"
                " that cannot mean that"
            )
        if name != name.strip():
            raise DataError(f"{where}: the column {name!r} has blanks around its name; expected none")


def is_manifest(names: Sequence[str]) -> bool:
    """Whether the columns are those of a manifest."""
    return set(MANIFEST.names) <= set(names)


def _meant(name: str, names: Sequence[str]) -> str | None:
    """The known column that a name may stand for. A synonym does not where the known column is there, too."""
    if name in KNOWN_COLUMNS:
        return None
    bare = re.sub(r"[\W_]", "", name).casefold()
    if bare in _BARE:
        return _BARE[bare]
    close = get_close_matches(bare, _BARE, n=1, cutoff=0.8)
    meant = _MEANT.get(bare) or (_BARE[close[0]] if close else None)
    return None if meant in names else meant


def _hint(names: Sequence[str]) -> str:
    """Why there may be no column `uri`, as the end of a sentence."""
    for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and separator in names[0]:
            return f"; the fields seem to be separated by {called}, expected commas"
    nearly = [name for name in names if _meant(name, names) == "uri"]
    return f"; is {nearly[0]!r} to be called `uri`?" if nearly else ""
