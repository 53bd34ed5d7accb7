"""Image set -> manifest: list, check the masks, draw the splits.

Rows are written to a local file and read from it twice, so that memory does not grow with unlabelled images.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import duckdb

from raysvq.data.manifest import UNSPLIT, Row, read_rows, spool, write_manifest
from raysvq.data.mask_check import MaskSummary, check_masks
from raysvq.data.mask_pairing import masks_among_images, without
from raysvq.data.sources import rows_of
from raysvq.data.sources.folder_scan import Skips
from raysvq.data.sources.listing_file import LISTINGS
from raysvq.data.sources.names import EXTENSIONS, printable
from raysvq.data.split import assign, draw_outliers, survey
from raysvq.errors import DataError
from raysvq.log import ProgressMeter
from raysvq.settings import SplitSettings
from raysvq.storage import canonical, exists, is_folder
from raysvq.tables import database

NAMED = 3  # missing files that the summary names


@dataclass(frozen=True)
class IndexSummary:
    """What was indexed, and what was left out."""

    source: str
    manifest: str
    images: int
    missing: int  # listed images that do not exist
    first_missing: tuple[str, ...]
    counts: dict[tuple[str, str], int]  # (split, label) -> images
    skipped: Skips
    masks: MaskSummary

    def table(self) -> str:
        """Number of images per split and label, as aligned text."""
        return "\n".join(
            f"{split:<11} {label:<10} {images:>6}" for (split, label), images in sorted(self.counts.items())
        )

    def lines(self) -> list[str]:
        """The whole summary, as lines of text."""
        found = [self.table()] if self.counts else []
        found += self.skipped.lines()
        found += self.masks.lines()
        if self.missing:
            found.append(
                f"{self.missing} listed images do not exist; scoring will reject them by name:"
                f" {_some(self.first_missing, self.missing)}"
            )
        none = f"no images in {self.source}: " if not self.images else ""
        return [*found, f"{none}{self.images} images in {self.manifest}"]


@dataclass
class _Missing:
    """Counts listed files that do not exist."""

    images: int = 0
    missing: int = 0
    first: tuple[str, ...] = ()

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.images += 1
            if row["size_bytes"] == 0 and row["mtime"] is None:
                self.missing += 1
                self.first = (*self.first, row["uri"])[:NAMED]
            yield row

    def require_some(self, source: str) -> None:
        if self.images and self.missing == self.images:
            raise DataError(
                f"none of the {self.images} images of {source} exists: looked for"
                f" {_some(self.first, self.missing)}; relative names are taken from the listing's folder"
            )


def build_index(
    source: str, manifest: str, settings: SplitSettings, allow_empty: bool = False
) -> IndexSummary:
    """List an image set, check its masks, draw the splits and write the manifest.

    Args:
        source: a path or URI of an image tree, a folder or prefix, or a CSV or Parquet listing.
        manifest: path or URI of the Parquet file to write.
        settings: how splits are drawn.
        allow_empty: a source without images makes a manifest without rows. In an object store, so does a
            prefix that does not exist.

    Raises:
        DataError: there are no images, or none that exists; a mask does not fit its image; a split cannot be
            drawn as the settings ask.
        StorageError: the source cannot be read, or the manifest not written.
    """
    source, manifest = canonical(source), canonical(manifest)
    counts: Counter[tuple[str, str]] = Counter()
    skips, seen, masks = Skips(), _Missing(), MaskSummary()
    absent = allow_empty and _is_absent_prefix(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unsplit.parquet"
        rows = check_masks(seen.counted([] if absent else rows_of(source, skips)), masks)
        spool(ProgressMeter(None, task="listing").watched(rows), path, UNSPLIT)
        seen.require_some(source)
        if not seen.images and not (allow_empty and skips.pictures == 0):
            looked_for = f"looked for {' '.join(sorted(EXTENSIONS))}"
            raise DataError("; ".join([f"no images found in {source}", looked_for, *skips.lines()]))
        with database(path.parent, spooled=[path]) as connection:
            _require_unique(connection)
            masks.among_images = among = masks_among_images(connection, source) if seen.images else ()
        if among and len(among) == seen.images:
            raise DataError(f"all {seen.images} images of {source} are masks, such as {printable(among[0])}")
        split = _split(path, source, settings, among, counts) if seen.images else []
        meter = ProgressMeter(seen.images - len(among), task="writing the manifest")
        write_manifest(meter.watched(split), manifest)
    return IndexSummary(
        source=source,
        manifest=manifest,
        images=counts.total(),
        missing=seen.missing,
        first_missing=seen.first,
        counts=dict(counts),
        skipped=skips,
        masks=masks,
    )


def _is_absent_prefix(source: str) -> bool:
    """Whether a prefix of an object store does not exist, though its bucket does.

    Raises:
        StorageError: the bucket does not exist, or the store does not answer.
    """
    scheme, separator, place = source.partition("://")
    if not separator or PurePosixPath(place).suffix.lower() in LISTINGS or exists(source):
        return False
    return is_folder(f"{scheme}://{place.partition('/')[0]}")


def _split(
    path: Path,
    source: str,
    settings: SplitSettings,
    left_out: tuple[str, ...],
    counts: Counter[tuple[str, str]],
) -> Iterator[Row]:
    """The rows of a spool, but for those left out, with their splits; counts images per split and label."""
    root = source if is_folder(source) else source.rpartition("/")[0]
    found = survey(without(read_rows(path), left_out), settings, root)
    draw = draw_outliers(found, settings)
    for row in without(read_rows(path), left_out):
        row |= {"split": assign(row, found, draw, settings)}
        counts[row["split"], row["label"]] += 1
        yield row


def _require_unique(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise DataError where a URI stands twice in the view `spooled`."""
    query = "select uri, count(*) from spooled group by uri having count(*) > 1 limit 1"
    if twice := connection.execute(query).fetchone():
        raise DataError(f"{twice[0]} is listed {twice[1]} times; an image may have one row")


def _some(uris: tuple[str, ...], count: int) -> str:
    return ", ".join(printable(uri) for uri in uris) + (", …" if count > len(uris) else "")
