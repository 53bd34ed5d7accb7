"""The labelled test images of a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysvq import schema, storage
from raysvq.errors import DataError, first_line

UNNAMED = "unnamed"  # anomalous images for which the manifest has no defect type

_MANIFEST_COLUMNS = ["image_id", "uri", "label", "mask_uri", "split", "defect_type"]
_BYTES_AT_ONCE = 32 << 20
_OPTIONAL = ["group", "meta"]


@dataclass(frozen=True)
class TestImage:
    """A labelled image of the test split."""

    image_id: str
    uri: str
    anomalous: bool
    mask_uri: str | None
    defect_type: str | None
    group: str | None = None  # part or lot
    meta: Mapping[str, str] = field(default_factory=dict)

    __test__ = False  # pytest would take it for a class of tests


@dataclass(frozen=True)
class ManifestView:
    """The labelled test images of a manifest, and how many images it has."""

    images: dict[str, TestImage]  # by image id
    counts: dict[str, dict[str, int]]  # split -> label -> images


def free_name(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, in as many brackets as make it differ from all defect types."""
    return wanted if wanted not in taken else free_name(f"({wanted})", taken)


def read_manifest(uri: str) -> ManifestView:
    """Read a manifest as a stream, and keep its labelled test images.

    Args:
        uri: of a Parquet file, or of a folder of them.

    Raises:
        DataError: the files are no manifest, or a test image has several rows.
        StorageError: nothing is there.
    """
    images: dict[str, TestImage] = {}
    counts: Counter[tuple[str, str]] = Counter()
    files = [uri]
    if storage.is_folder(uri):
        files = [info.uri for info in storage.list_objects(uri) if info.uri.endswith(".parquet")]
    if not files:
        raise DataError(f"manifest {uri}: found no .parquet file in this folder; `raysvq index` writes one")
    for file in files:
        for batch in batches(file, _MANIFEST_COLUMNS, _OPTIONAL):
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
                    group=row.get("group") or None,
                    meta={key: value for key, value in row.get("meta") or () if value},
                )
    table: dict[str, dict[str, int]] = {}
    for (split, label), number in sorted(counts.items()):
        table.setdefault(split, {})[label] = number
    return ManifestView(images, table)


def batches(
    uri: str, columns: Sequence[str], optional: Sequence[str] = (), rows: int = 8192
) -> Iterator[pa.RecordBatch]:
    """Read some columns of a Parquet file as a stream, at most `rows` rows and some 32 MiB in memory.

    Args:
        optional: columns that older files lack; batches of these lack them, too.

    Raises:
        DataError: the file is unreadable, is no Parquet, or lacks a column.
    """
    fs, path = storage.filesystem(uri)
    try:
        with fs.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            missing = sorted(set(columns) - set(names))
            if missing:
                raise DataError(f"{uri}: found no column {', '.join(missing)}; expected {', '.join(columns)}")
            found = [*columns, *(name for name in optional if name in names)]
            yield from file.iter_batches(batch_size=min(rows, _rows_at_once(file)), columns=found)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{uri}: cannot be read as Parquet ({first_line(error)})") from None


def _rows_at_once(file: pq.ParquetFile) -> int:
    """How many of a file's rows fit into memory together, by their mean size."""
    groups = (file.metadata.row_group(at) for at in range(file.num_row_groups))
    size = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return max(1, int(_BYTES_AT_ONCE / max(1, size)))
