"""Where images come from: a labelled tree, a plain folder, or a listing.

Each source yields manifest rows, one image at a time, with `split` None where the source does
not say. What is wrong with the set as a whole is raised; what is wrong with one image is left to
the stages that read it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.manifest import Row, chunks
from raysvq.data.pairing import Masks
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, LABELS, NORMAL, SPLITS, TEST, TRAIN, UNKNOWN
from raysvq.storage import ObjectInfo, canonical, exists, file_infos, filesystem, image_id, is_folder, join
from raysvq.storage import list_objects as list_all

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".pgm", ".ppm"}
)

_FIELDS = frozenset({"uri", "label", "mask_uri", "split", "group", "defect_type", "captured_at"})


def rows_of(source: str) -> Iterator[Row]:
    """Manifest rows of whatever `source` is.

    Raises:
        DataError: the layout or a listing's row is wrong.
        StorageError: the source cannot be read.
    """
    if not is_folder(source):
        return listing_rows(source)
    if exists(join(source, "train")) or exists(join(source, "ground_truth")):
        return tree_rows(source)
    return folder_rows(source)


def tree_rows(root: str) -> Iterator[Row]:
    """An MVTec-style tree: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png.

    The folder right below train/ or test/ is the label; there may be more folders below it.

    Raises:
        DataError: a mask has no image, or an image two masks or no such folder.
    """
    truth = join(root, "ground_truth")
    masks = Masks((info.uri for info in _images(truth)) if exists(truth) else (), truth)
    for split in (TRAIN, TEST):
        folder = join(root, split)
        if not exists(folder):
            continue
        for info in _images(folder):
            stem = _stem_below(info.uri, folder)
            kind, below, _ = stem.partition("/")
            if not below:
                raise DataError(
                    f"{info.uri} stands in no folder of {folder}; expected good/ or a defect's name"
                )
            good = kind == "good"
            yield _row(
                info,
                label=NORMAL if good else ANOMALOUS,
                split=split,
                mask_uri=masks.take(stem, info.uri, good),
                defect_type=None if good else kind,
            )
    masks.require_none_left(join(root, TEST))


def _stem_below(uri: str, folder: str) -> str:
    """A file's path below a folder, without its extension."""
    return uri.removeprefix(f"{folder}/").removesuffix(PurePosixPath(uri).suffix)


def folder_rows(root: str) -> Iterator[Row]:
    """Every image at or below a folder or prefix, of unknown label."""
    for info in _images(root):
        yield _row(info)


def listing_rows(uri: str) -> Iterator[Row]:
    """A CSV or Parquet file with a `uri` column; columns raysvq does not know become `meta`.

    Relative URIs are taken from the listing's folder. A listed file that does not exist keeps its
    row, with size 0: scoring rejects it by name.

    Raises:
        DataError: the format is unknown, there is no `uri` column, or a value is not allowed.
    """
    base = uri.rpartition("/")[0]
    numbered = enumerate(_listing_records(uri), start=1)
    for chunk in chunks(numbered, 1000):
        uris = [_resolve(base, _text(record.get("uri")), f"{uri}, row {number}") for number, record in chunk]
        for (number, record), name, info in zip(chunk, uris, file_infos(uris), strict=True):
            where = f"{uri}, row {number}"
            mask, split = _text(record.get("mask_uri")), _text(record.get("split"))
            yield _row(
                info or ObjectInfo(name, 0, None, None),
                label=_one_of(_text(record.get("label")) or UNKNOWN, LABELS, "label", where),
                split=_one_of(split, SPLITS, "split", where) if split else None,
                mask_uri=_resolve(base, mask, where) if mask else None,
                group=_text(record.get("group")),
                defect_type=_text(record.get("defect_type")),
                captured_at=_time(record.get("captured_at"), where),
                meta=[(key, text) for key in record if key not in _FIELDS and (text := _text(record[key]))],
            )


def _images(root: str) -> Iterator[ObjectInfo]:
    for info in list_all(root):
        if PurePosixPath(info.uri).suffix.lower() in EXTENSIONS:
            if any("\ud800" <= character <= "\udfff" for character in info.uri):
                raise DataError(f"{info.uri!r}: the name is not UTF-8; rename the file")
            yield info


def _row(info: ObjectInfo, **fields: Any) -> Row:
    row: Row = {
        "image_id": image_id(info.uri),
        "uri": info.uri,
        "size_bytes": info.size_bytes,
        "etag": info.etag,
        "mtime": info.mtime,
        "label": UNKNOWN,
        "mask_uri": None,
        "split": None,
        "group": None,
        "defect_type": None,
        "captured_at": None,
        "meta": [],
    }
    return row | fields


def _listing_records(uri: str) -> Iterator[dict[str, Any]]:
    fs, path = filesystem(uri)
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix == ".csv":
        with fs.open_input_stream(path) as stream:
            reader = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
            try:
                _require_uri(reader.fieldnames or [], uri)
                for record in reader:
                    if None in record:
                        raise DataError(
                            f"listing {uri}: line {reader.line_num} has more cells than the header"
                        )
                    yield record
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(
                    f"listing {uri}: not readable as CSV near line {reader.line_num}: {error}"
                ) from None
    elif suffix == ".parquet":
        try:
            with fs.open_input_file(path) as stream:
                file = pq.ParquetFile(stream)
                _require_uri(file.schema_arrow.names, uri)
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except pa.ArrowInvalid as error:
            raise DataError(f"listing {uri}: not readable as Parquet: {error}") from None
    else:
        raise DataError(f"{uri} is a file, but not a .csv or .parquet listing")


def _require_uri(columns: Any, uri: str) -> None:
    if "uri" not in columns:
        raise DataError(f"listing {uri}: no column `uri`; found {', '.join(columns) or 'none'}")


def _resolve(base: str, name: str | None, where: str) -> str:
    if not name:
        raise DataError(f"{where}: the URI is empty")
    if "://" in name or name.startswith("/"):
        return canonical(name)
    return canonical(join(base, name))


def _text(value: Any) -> str | None:
    """A cell as text; None where it is empty."""
    return None if value is None or value == "" else str(value)


def _one_of(value: str, allowed: tuple[str, ...], column: str, where: str) -> str:
    if value not in allowed:
        raise DataError(f"{where}: {column} is {value!r}, expected one of {', '.join(allowed)}")
    return value


def _time(value: Any, where: str) -> datetime | None:
    if not value:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise DataError(
            f"{where}: captured_at is {value!r}, expected ISO 8601 such as 2026-05-04T10:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
