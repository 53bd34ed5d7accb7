"""Image set -> manifest. Two passes over a local spool; memory does not grow with unlabelled images."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb

from raysvq.data.manifest import UNSPLIT, Row, chunks, read_rows, spool, write_manifest
from raysvq.data.sources import EXTENSIONS, rows_of
from raysvq.data.split import Draw, Survey, assign, draw_outliers, survey
from raysvq.errors import DataError
from raysvq.imaging.decode import DecodeError, image_size
from raysvq.schema import NORMAL
from raysvq.settings import SplitSettings
from raysvq.storage import canonical, is_folder, read_bytes

READERS = 16


@dataclass(frozen=True)
class IndexSummary:
    """What an index holds."""

    manifest: str
    images: int
    missing: int  # listed, but not in the store
    counts: dict[tuple[str, str], int]  # (split, label) -> images

    def table(self) -> str:
        """Images by split and label, as aligned text."""
        return "\n".join(
            f"{split:<11} {label:<10} {images:>6}" for (split, label), images in sorted(self.counts.items())
        )


def build_index(source: str, manifest: str, settings: SplitSettings) -> IndexSummary:
    """List an image set, check its masks, draw the splits, write the manifest.

    Args:
        source: an image tree, a folder or prefix, or a CSV or Parquet listing; a path or URI.
        manifest: where the Parquet file goes.

    Raises:
        DataError: no images, a mask that does not fit, a draw that cannot be made.
        StorageError: the source cannot be read or the manifest not written.
    """
    source, manifest = canonical(source), canonical(manifest)
    root = source if is_folder(source) else source.rpartition("/")[0]
    counts: Counter[tuple[str, str]] = Counter()
    missing = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unsplit.parquet"
        spool(_checked(rows_of(source)), path, UNSPLIT)
        _require_unique(path)
        found = survey(read_rows(path), settings, root)
        draw = draw_outliers(found, settings)

        def split_rows() -> Iterator[Row]:
            nonlocal missing
            for row in _assigned(read_rows(path), found, draw, settings):
                counts[row["split"], row["label"]] += 1
                missing += row["size_bytes"] == 0 and row["mtime"] is None
                yield row

        first = next(rows := split_rows(), None)
        if first is None:
            raise DataError(f"no images found in {source}; looked for {', '.join(sorted(EXTENSIONS))}")
        write_manifest(itertools.chain([first], rows), manifest)
    return IndexSummary(manifest, counts.total(), missing, dict(counts))


def _assigned(rows: Iterable[Row], found: Survey, draw: Draw, settings: SplitSettings) -> Iterator[Row]:
    for row in rows:
        yield row | {"split": assign(row, found, draw, settings)}


def _checked(rows: Iterable[Row]) -> Iterator[Row]:
    """Compare the size of every mask with its image's, a few files at once.

    Raises:
        DataError: a mask is missing, unreadable or of another size, or belongs to a normal image.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for chunk in chunks(rows, 256):
            list(pool.map(_check_mask, (row for row in chunk if row["mask_uri"])))
            yield from chunk


def _check_mask(row: Row) -> None:
    mask, image = row["mask_uri"], row["uri"]
    if row["label"] == NORMAL:
        raise DataError(f"{image} is labelled normal, but has the mask {mask}")
    try:
        expected = image_size(read_bytes(image))
    except (DecodeError, OSError):
        return  # scoring rejects the image with its reason
    try:
        found = image_size(read_bytes(mask))
    except (DecodeError, OSError) as error:
        raise DataError(f"mask {mask} of {image} cannot be read: {error}") from None
    if found != expected:
        raise DataError(
            f"mask of another size: {mask} is {found[1]} x {found[0]} pixels,"
            f" its image {image} {expected[1]} x {expected[0]}"
        )


def _require_unique(spooled: Path) -> None:
    """Raise DataError where one URI stands twice. DuckDB spills to disk what does not fit."""
    query = "select uri, count(*) from read_parquet(?) group by uri having count(*) > 1 limit 1"
    if twice := duckdb.execute(query, [str(spooled)]).fetchone():
        raise DataError(f"{twice[0]} is listed {twice[1]} times; an image may have one row")
