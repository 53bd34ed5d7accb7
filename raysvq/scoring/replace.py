"""Taking rows out of committed files: of images that changed and were scored again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq.results import SCHEMAS, current_files, find_commits
from raysvq.scoring.sink import File, Files, write_table
from raysvq.storage import filesystem, join, patiently

READERS = 16


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
    for kind in SCHEMAS:
        names = [file["name"] for file in current_files(commits, kind)]
        for name, rest in _holders(out, names, image_ids):
            replaced[kind].append(name)
            if rest.num_rows:
                kept[kind].append(_rewrite(out, kind, name, rest, run_id))
    return kept, replaced


def _holders(out: str, names: list[str], image_ids: pa.Array) -> Iterator[tuple[str, pa.Table]]:
    """The files with one of the images, each with its other rows."""

    def rest(name: str) -> tuple[str, pa.Table] | None:
        return patiently(join(out, name), lambda: read(name))

    def read(name: str) -> tuple[str, pa.Table] | None:
        fs, path = filesystem(join(out, name))
        with pq.ParquetFile(path, filesystem=fs) as file:
            gone = pc.is_in(file.read(["image_id"])["image_id"], image_ids)
            return (name, file.read().filter(pc.invert(gone))) if pc.any(gone).as_py() else None

    with ThreadPoolExecutor(READERS) as pool:
        yield from filter(None, pool.map(rest, names))


def _rewrite(out: str, kind: str, name: str, rows: pa.Table, run_id: str) -> File:
    folder = name.rpartition("/")[0]
    part = hashlib.blake2b(f"{run_id}:{name}".encode(), digest_size=12).hexdigest()
    return write_table(out, f"{folder}/part-{part}.parquet", kind, rows)
