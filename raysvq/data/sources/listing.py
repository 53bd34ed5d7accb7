"""A listing: a CSV or Parquet file with one row per image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from raysvq.data.manifest import Row, chunks, row_of
from raysvq.data.sources import listing_values as values
from raysvq.data.sources.listing_file import KNOWN_COLUMNS, is_manifest, listing_records
from raysvq.errors import DataError, StorageError
from raysvq.schema import MANIFEST
from raysvq.storage import ObjectInfo, canonical, file_infos, join

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_OTHER_S3 = re.compile(r"s3[an]://|https?://[^/]*\bs3\b[^/]*amazonaws\.com/|arn:aws:s3:", re.IGNORECASE)


def listing_rows(uri: str) -> Iterator[Row]:
    """Manifest rows of a CSV or Parquet file with a column `uri`.

    Columns that raysvq does not know become `meta`. Relative URIs are taken from the listing's folder. A
    listed file that does not exist keeps its row, with size 0: scoring rejects it by name. A manifest is a
    listing, too: size, ETag and time are looked up again, everything else stays as it is.

    Raises:
        DataError: the format is unknown, a column is missing or misnamed, or a value is not allowed.
    """
    base = uri.rpartition("/")[0]
    for chunk in chunks(enumerate(listing_records(uri), start=1), 1000):
        entries = [
            (f"{uri}, row {number}", values.text(record["uri"], "uri", f"{uri}, row {number}"))
            for number, record in chunk
        ]
        uris = [resolve(base, entry, where) for where, entry in entries]
        for (_, record), (where, entry), name, info in zip(
            chunk, entries, uris, file_infos(uris), strict=True
        ):
            if info is None and (why := why_missing(entry or "", name)):
                raise DataError(f"{where}: {name} does not exist: {why}")
            yield _row(record, info or ObjectInfo(name, 0, None, None), base, where)


def _row(record: dict[str, Any], info: ObjectInfo, base: str, where: str) -> Row:
    mask = values.name(record.get("mask_uri"), "mask_uri", where)
    label = values.label(record.get("label"), where)
    defect = values.name(record.get("defect_type"), "defect_type", where)
    values.require_agreement(label, defect, where)
    return row_of(
        info,
        label=label,
        split=values.split(record.get("split"), where),
        mask_uri=resolve(base, mask, where) if mask else None,
        group=values.name(record.get("group"), "group", where),
        defect_type=defect,
        captured_at=values.moment(record.get("captured_at"), where),
        meta=_meta(record, where),
    )


def _meta(record: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Columns that raysvq does not know, as texts. Those of a manifest follow its own `meta`."""
    if is_manifest(list(record)):
        more = {key: value for key, value in record.items() if key not in MANIFEST.names}
        pairs = [*(record["meta"] or []), *more.items()]
    else:
        pairs = [(key, value) for key, value in record.items() if key not in KNOWN_COLUMNS]
    return [(key, found) for key, value in pairs if (found := values.text(value, key, where))]


def resolve(base: str, name: str | None, where: str) -> str:
    """The URI of an entry. A relative one is taken from the folder `base`; `.` and `..` are resolved.

    Raises:
        DataError: the entry is empty, or names a file in a way that only other systems understand.
    """
    if not name:
        raise DataError(f"{where}: the URI is empty")
    if re.match(r"~\w*/", name):
        raise DataError(f"{where}: {name!r} depends on who reads it; expected the whole path instead of ~")
    if _WINDOWS.match(name):
        raise DataError(f"{where}: {name!r} is a path of Windows; expected one of this system")
    if _OTHER_S3.match(name):
        raise DataError(f"{where}: {name!r} is another way to name an object; expected s3://bucket/key")
    if re.match(r"https?://", name, re.IGNORECASE):
        raise DataError(f"{where}: {name!r} is a web address; expected a path or an object store's URI")
    if re.match("file:(?!//)", name):
        raise DataError(f"{where}: {name!r}; expected file:///… or a path")
    try:
        return canonical(name if "://" in name or name.startswith("/") else join(base, name))
    except StorageError as error:
        raise DataError(f"{where}: {error}") from None


def why_missing(entry: str, uri: str) -> str | None:
    """A spelling in the listing that explains why a file is not found; None where the file is simply missing.

    Args:
        entry: as the listing has it.
        uri: where the file was looked for.
    """
    if entry != entry.strip():
        return f"{entry!r} has blanks around it"
    if "\\" in entry:
        return f"{entry!r} has folders separated by \\, expected /"
    if unquote(uri) != uri and file_infos([unquote(uri)])[0]:
        return f"{entry!r} is percent-encoded; names are taken as they are written"
    return None
