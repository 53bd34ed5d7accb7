"""Taking rows out of committed files: of images that changed and were scored again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.results import SCHEMAS, current_files, find_commits
from raysvq.scoring.sink import File, Files, write_table
from raysvq.storage import filesystem, join, patiently

WORKERS = 16  # files in memory at once


def without_images(out: str, image_ids: pa.Array, run_id: str) -> tuple[Files, dict[str, list[str]]]:
    """Write every committed file that holds one of these images anew, without them.

    Nothing changes for readers until a commit record names the new files and the old ones.

    Returns:
        The new files, and the names of those they replace, by kind.
    """
    kept: Files = {kind: [] for kind in SCHEMAS}
    replaced: dict[str, list[str]] = {kind: [] for kind in SCHEMAS}
    if not len(image_ids):
        return kept, replaced
    commits = find_commits(out)
    with ThreadPoolExecutor(WORKERS) as pool:
        for kind in SCHEMAS:
            names = [file["name"] for file in current_files(commits, kind)]
            rewrite = partial(_rewrite, out, kind, image_ids, run_id)
            for name, rest in zip(names, pool.map(rewrite, names), strict=True):
                if rest is not None:
                    replaced[kind].append(name)
                    kept[kind] += rest
    return kept, replaced


def _rewrite(out: str, kind: str, image_ids: pa.Array, run_id: str, name: str) -> list[File] | None:
    """Write a file's other rows anew, if there are any; None where it holds none of the images."""
    rest = patiently(join(out, name), lambda: _without(out, image_ids, name))
    if rest is None:
        return None
    folder = name.rpartition("/")[0]
    part = hashlib.blake2b(f"{run_id}:{name}".encode(), digest_size=12).hexdigest()
    return [write_table(out, f"{folder}/part-{part}", kind, rest)] if rest.num_rows else []


def _without(out: str, image_ids: pa.Array, name: str) -> pa.Table | None:
    fs, path = filesystem(join(out, name))
    with pq.ParquetFile(path, filesystem=fs) as file:
        gone = pc.is_in(file.read(["image_id"])["image_id"], image_ids)
        return file.read().filter(pc.invert(gone)) if pc.any(gone).as_py() else None
