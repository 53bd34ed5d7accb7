"""Taking rows out of committed files: of images that changed and were scored again."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from raysvq.errors import AccountingError
from raysvq.results.format import IDS, SCHEMAS, File, Files, Replaced, no_files
from raysvq.results.writer import file_batches, spooled

WORKERS = 4  # files rewritten at once
REWRITTEN = "rewritten"  # what names of files begin with that are a rest of others; a version follows


def rewrite_without(
    out: str, image_ids: pa.Array, names: Iterable[str], version: int
) -> tuple[Files, Replaced]:
    """Write the committed files that hold the rows of these images anew, without them.

    Nothing changes for readers until a commit record names the new files and the old ones.

    Args:
        names: of those files, as the id index has them.
        version: of the record that will name the new files.

    Returns:
        The new files by kind, and the names of those they replace.

    Raises:
        AccountingError: the files do not hold one score or reject row of each of the images.
        StorageError: `out` may not be written.
    """
    kept: Files = no_files()
    replaced: Replaced = {}
    removed = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        ordered = sorted(names)
        for name, (rest, gone) in zip(
            ordered, pool.map(partial(_rewrite, out, image_ids, version), ordered), strict=True
        ):
            kind = name.partition("/")[0]
            replaced[name] = rest.name if rest else None
            if rest:
                kept[kind].append(rest)
            removed += gone if kind != "maps" else 0
    if removed != len(image_ids):
        raise AccountingError(
            f"{out}: {len(image_ids)} images to replace, but the files that {IDS}/ names for them hold"
            f" {removed}; nothing was committed. Remove {out}/{IDS}, which is made again, and start again"
        )
    return kept, replaced


def _rewrite(out: str, image_ids: pa.Array, version: int, name: str) -> tuple[File | None, int]:
    """A file's other rows as a new file, if there are any, and how many rows are left out."""
    kind, (folder, _, _) = name.partition("/")[0], name.rpartition("/")
    gone = 0
    with spooled(SCHEMAS[kind]) as rest:
        for batch in file_batches(out, name):
            chosen = pc.is_in(batch["image_id"], image_ids)
            left = batch.filter(pc.invert(chosen))
            gone += batch.num_rows - left.num_rows
            if left.num_rows:
                rest.add(left)
        return (rest.put(out, f"{folder}/{REWRITTEN}-{version:020d}") if rest.rows else None), gone
