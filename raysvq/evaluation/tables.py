"""The tables an evaluation joins, streamed: manifest, score rows, rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq import schema, storage
from raysvq.errors import DataError, first_line
from raysvq.evaluation.result import Rejected
from raysvq.results import committed_files

UNNAMED = "unnamed"  # anomalous images for which the manifest has no defect type

_MANIFEST_COLUMNS = ["image_id", "uri", "label", "mask_uri", "split", "defect_type"]
_EXAMPLES = 3


@dataclass(frozen=True)
class TestImage:
    """A labelled image of the test split, as the manifest has it."""

    image_id: str
    uri: str
    anomalous: bool
    mask_uri: str | None
    defect_type: str | None

    __test__ = False  # the name is no test class


@dataclass(frozen=True)
class ManifestView:
    """What an evaluation keeps of a manifest."""

    images: dict[str, TestImage]  # by image id
    counts: dict[str, dict[str, int]]  # split -> label -> images


def free_name(wanted: str, taken: Collection[str]) -> str:
    """A name that no defect type has, for a row beside those of the types."""
    return wanted if wanted not in taken else free_name(f"({wanted})", taken)


def read_manifest(uri: str) -> ManifestView:
    """Stream a manifest, a Parquet file or a folder of them; keep its labelled test images.

    Raises:
        DataError: it is no manifest.
        StorageError: nothing is there.
    """
    images: dict[str, TestImage] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for file in parquet_files(uri):
        for batch in batches(file, _MANIFEST_COLUMNS):
            counts.update(zip(batch["split"].to_pylist(), batch["label"].to_pylist(), strict=True))
            labelled = pc.is_in(batch["label"], pa.array([schema.NORMAL, schema.ANOMALOUS]))
            chosen = pc.and_(pc.equal(batch["split"], schema.TEST), labelled)
            for row in batch.filter(chosen).to_pylist():
                if row["image_id"] in images:
                    raise DataError(f"manifest {uri}: {row['uri']} has several rows; expected one per image")
                images[row["image_id"]] = TestImage(
                    image_id=row["image_id"],
                    uri=row["uri"],
                    anomalous=row["label"] == schema.ANOMALOUS,
                    mask_uri=row["mask_uri"],
                    defect_type=row["defect_type"],
                )
    table: dict[str, dict[str, int]] = {}
    for (split, label), number in sorted(counts.items()):
        table.setdefault(split, {})[label] = number
    return ManifestView(images, table)


def committed_rows(
    scores: str, kind: str, columns: Sequence[str], wanted: pa.Array, rows: int = 1024
) -> Iterator[pa.RecordBatch]:
    """Stream the committed rows of the wanted image ids, at most `rows` at once."""
    for file in committed_files(scores, kind):
        for batch in batches(file, columns, rows):
            chosen = batch.filter(pc.is_in(batch["image_id"], wanted))
            if chosen.num_rows:
                yield chosen


def read_rejects(scores: str, images: dict[str, TestImage]) -> tuple[tuple[Rejected, ...], set[str]]:
    """Count all rejected images by reason, most frequent first, and name those among `images`."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, str]]] = {}
    among: set[str] = set()
    for file in committed_files(scores, "rejects"):
        for batch in batches(file, ["image_id", "uri", "reason", "detail"]):
            for row in batch.to_pylist():
                counts[row["reason"]] += 1
                some = examples.setdefault(row["reason"], [])
                if len(some) < _EXAMPLES:
                    some.append((row["uri"], row["detail"]))
                if row["image_id"] in images:
                    among.add(row["image_id"])
    groups = (Rejected(reason, number, tuple(examples[reason])) for reason, number in counts.most_common())
    return tuple(groups), among


def parquet_files(uri: str) -> list[str]:
    """The file itself, or the Parquet files below a folder.

    Raises:
        DataError: the folder holds none.
        StorageError: nothing is there.
    """
    if not storage.is_folder(uri):
        return [uri]
    files = [info.uri for info in storage.list_objects(uri) if info.uri.endswith(".parquet")]
    if not files:
        raise DataError(f"manifest {uri}: found no .parquet file in this folder; `raysvq index` writes one")
    return files


def batches(uri: str, columns: Sequence[str], rows: int = 8192) -> Iterator[pa.RecordBatch]:
    """Stream some columns of a Parquet file.

    Raises:
        DataError: the file is unreadable, is no Parquet, or lacks a column.
    """
    fs, path = storage.filesystem(uri)
    try:
        with fs.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise DataError(f"{uri}: found no column {', '.join(missing)}; expected {', '.join(columns)}")
            yield from file.iter_batches(batch_size=rows, columns=list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{uri}: cannot be read as Parquet ({first_line(error)})") from None


def list_column(batch: pa.RecordBatch, name: str) -> Iterator[Any]:
    """The rows of a list<struct> column, each a struct array over its own elements."""
    column = batch[name]
    offsets = column.offsets.to_numpy()
    for start, stop in pairwise(offsets):
        yield column.values.slice(start, stop - start)
