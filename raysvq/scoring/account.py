"""Every image once: the ids in the files just written against the rows that were to be scored."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.manifest import Tally
from raysvq.errors import AccountingError
from raysvq.scoring.pending import Pending
from raysvq.scoring.sink import File, Files, read_file
from raysvq.storage import join

READERS = 16  # result files read at once


def require_complete(out: str, files: Files, pending: Pending) -> None:
    """Compare the ids in a run's files with its pending rows.

    Raises:
        AccountingError: an image is missing, was written twice, or was not asked for, or a file is
            gone; some are named.
    """
    written = [file for kind in ("scores", "rejects") for file in files[kind]]
    found = Tally()
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(lambda file: _tally_of(out, file), written):
            found.merge(part)
    if found == pending.rows:
        return
    ids = [image for file in written for image in _ids(out, file).to_pylist()]
    wanted = set(pq.read_table(pending.path, columns=["image_id"], partitioning=None)["image_id"].to_pylist())
    twice = [image for image, times in Counter(ids).items() if times > 1]
    lost, strange = sorted(wanted - set(ids)), sorted(set(ids) - wanted)
    raise AccountingError(
        f"{out}: {pending.rows.count} images to score, {found.count} rows written;"
        f" lost {lost[:5]}, twice {twice[:5]}, not in the manifest {strange[:5]}; nothing was committed"
    )


def _tally_of(out: str, file: File) -> Tally:
    result = Tally()
    result.add(_ids(out, file))
    return result


def _ids(out: str, file: File) -> pa.ChunkedArray:
    try:
        return read_file(out, file, ["image_id"])["image_id"]
    except FileNotFoundError:
        raise AccountingError(
            f"{join(out, file.name)} is gone, which a finished work unit had written; nothing was committed,"
            " start the run again"
        ) from None
