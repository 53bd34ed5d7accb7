"""Image set -> manifest. Two passes over a local spool; memory does not grow with unlabelled images."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from raysvq.data.manifest import UNSPLIT, Row, read_rows, spool, write_manifest
from raysvq.data.mask_checks import checked
from raysvq.data.mask_summary import MaskSummary, MaskTally
from raysvq.data.masks_beside import masks_beside, without
from raysvq.data.sources import EXTENSIONS, rows_of
from raysvq.data.split import Draw, Survey, assign, draw_outliers, survey
from raysvq.errors import DataError
from raysvq.settings import SplitSettings
from raysvq.storage import canonical, is_folder


@dataclass(frozen=True)
class IndexSummary:
    """What an index holds."""

    manifest: str
    images: int
    missing: int  # listed, but not in the store
    counts: dict[tuple[str, str], int]  # (split, label) -> images
    masks: MaskSummary

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
    masks = MaskTally()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unsplit.parquet"
        spool(checked(rows_of(source), masks), path, UNSPLIT)
        _require_unique(path)
        beside = masks_beside(path, source)
        found = survey(without(read_rows(path), beside), settings, root)
        draw = draw_outliers(found, settings)

        def split_rows() -> Iterator[Row]:
            nonlocal missing
            for row in _assigned(without(read_rows(path), beside), found, draw, settings):
                counts[row["split"], row["label"]] += 1
                missing += row["size_bytes"] == 0 and row["mtime"] is None
                yield row

        first = next(rows := split_rows(), None)
        if first is None:
            raise DataError(f"no images found in {source}; looked for {', '.join(sorted(EXTENSIONS))}")
        write_manifest(itertools.chain([first], rows), manifest)
    return IndexSummary(manifest, counts.total(), missing, dict(counts), masks.summary(beside))


def _assigned(rows: Iterable[Row], found: Survey, draw: Draw, settings: SplitSettings) -> Iterator[Row]:
    for row in rows:
        yield row | {"split": assign(row, found, draw, settings)}


def _require_unique(spooled: Path) -> None:
    """Raise DataError where one URI stands twice. DuckDB spills to disk what does not fit."""
    query = "select uri, count(*) from read_parquet(?) group by uri having count(*) > 1 limit 1"
    if twice := duckdb.execute(query, [str(spooled)]).fetchone():
        raise DataError(f"{twice[0]} is listed {twice[1]} times; an image may have one row")
