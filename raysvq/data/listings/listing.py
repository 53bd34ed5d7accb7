"""A listing: a CSV or Parquet file with a row for each image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raysvq.data.listings import cells
from raysvq.data.listings.columns import KNOWN, is_manifest
from raysvq.data.listings.places import resolve, why_missing
from raysvq.data.listings.records import listing_records
from raysvq.data.manifest import Row, chunks, row_of
from raysvq.errors import DataError
from raysvq.schema import MANIFEST
from raysvq.storage import ObjectInfo, file_infos

Record = dict[str, Any]


def listing_rows(uri: str) -> Iterator[Row]:
    """A CSV or Parquet file with a `uri` column; columns raysvq does not know become `meta`.

    Relative URIs are taken from the listing's folder. A listed file that does not exist keeps its
    row, with size 0: scoring rejects it by name. A manifest is a listing, too: size, ETag and time
    are looked up anew, the rest stays as it is.

    Raises:
        DataError: the format is unknown, a column is missing or misnamed, or a value is not allowed.
    """
    base = uri.rpartition("/")[0]
    for chunk in chunks(enumerate(listing_records(uri), start=1), 1000):
        entries = [
            (f"{uri}, row {number}", cells.text(record["uri"], "uri", f"{uri}, row {number}"))
            for number, record in chunk
        ]
        uris = [resolve(base, entry, where) for where, entry in entries]
        for (_, record), (where, entry), name, info in zip(
            chunk, entries, uris, file_infos(uris), strict=True
        ):
            if info is None and (why := why_missing(entry or "", name)):
                raise DataError(f"{where}: {name} does not exist: {why}")
            yield _row(record, info or ObjectInfo(name, 0, None, None), base, where)


def _row(record: Record, info: ObjectInfo, base: str, where: str) -> Row:
    mask = cells.name(record.get("mask_uri"), "mask_uri", where)
    label = cells.label(record.get("label"), where)
    defect = cells.name(record.get("defect_type"), "defect_type", where)
    cells.require_agreement(label, defect, where)
    return row_of(
        info,
        label=label,
        split=cells.split(record.get("split"), where),
        mask_uri=resolve(base, mask, where) if mask else None,
        group=cells.name(record.get("group"), "group", where),
        defect_type=defect,
        captured_at=cells.moment(record.get("captured_at"), where),
        meta=_meta(record, where),
    )


def _meta(record: Record, where: str) -> list[tuple[str, str]]:
    """Whatever raysvq has no column for, as texts; of a manifest the map itself."""
    if is_manifest(list(record)):
        more = {key: value for key, value in record.items() if key not in MANIFEST.names}
        pairs = [*(record["meta"] or []), *more.items()]
    else:
        pairs = [(key, value) for key, value in record.items() if key not in KNOWN]
    return [(key, found) for key, value in pairs if (found := cells.text(value, key, where))]
