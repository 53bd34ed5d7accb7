"""`images.parquet`: the labelled test images of an evaluation, one row each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq import schema, storage
from raysvq.errors import DataError, first_line
from raysvq.evaluation.result import Evaluation, ImageRecord

NAME = "images.parquet"  # in the folder of the report
_ROW_GROUP = 16_384  # rows

IMAGES = pa.schema(
    [
        *schema.SOURCE_FIELDS,  # of the file that was scored
        pa.field("mask_uri", pa.string()),
        pa.field("width", pa.int32(), nullable=False),  # pixels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("anomalous", pa.bool_(), nullable=False),
        pa.field("defect_type", pa.string()),
        pa.field("group", pa.string()),
        pa.field("meta", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("threshold", pa.float32(), nullable=False),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("p_value", pa.float64()),
        pa.field("margin", pa.float32()),
        pa.field("policy", pa.string()),
        pa.field("decision_group", pa.string()),
        pa.field("defect_area", pa.float64()),  # share of the image that is marked
        pa.field("defects", pa.int32()),
        pa.field("largest_defect", pa.int64()),  # pixels
        pa.field("defects_found", pa.int32()),
        pa.field("false_regions", pa.int32()),
        pa.field("regions", pa.list_(schema.REGION), nullable=False),
    ]
)


def write_images(evaluation: Evaluation, uri: str) -> None:
    """Write the images of an evaluation, with the model's version and digest as the file's metadata.

    Raises:
        StorageError: the file cannot be written.
    """
    origin = evaluation.provenance
    named = IMAGES.with_metadata(
        {"model_version": origin.model_version, "model_digest": origin.model_digest, "scores": origin.scores}
    )
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, named, compression="zstd") as writer:
        for start in range(0, len(evaluation.images), _ROW_GROUP):
            rows = [_row(image) for image in evaluation.images[start : start + _ROW_GROUP]]
            writer.write_table(pa.Table.from_pylist(rows, named))
    storage.write_bytes(uri, buffer.getvalue())


def read_images(report: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of the images of an evaluation; the table's metadata names the model.

    Args:
        report: URI of the folder that `raysvq evaluate` wrote, or of its `images.parquet`.

    Raises:
        DataError: it is not there, or is no such table.
        StorageError: it cannot be read.
    """
    uri = report if report.endswith(".parquet") else storage.join(report, NAME)
    if not storage.exists(uri):
        raise DataError(f"{uri}: no such file; expected a report that `raysvq evaluate` wrote, with {NAME}")
    fs, path = storage.filesystem(uri)
    try:
        with fs.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{uri}: found no column {', '.join(missing)}; expected {NAME} of a report")
            return file.read(columns=list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{uri}: cannot be read as Parquet ({first_line(error)})") from None


def _row(image: ImageRecord) -> dict[str, object]:
    values = {name: value for name, value in vars(image).items() if name not in ("version", "regions")}
    version = {name: value for name, value in vars(image.version).items() if name != "uri"}
    return {
        **values,
        **version,
        "meta": list(image.meta.items()),
        "regions": [asdict(one) for one in image.regions],
    }
