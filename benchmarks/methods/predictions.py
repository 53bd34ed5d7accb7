"""What every test image was scored, kept as Parquet: one file per run, one row per image.

From these rows all metrics can be computed anew, those of pixels with the masks of the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.methods.protocol import Results
from raysvq import schema
from raysvq.evaluation.labelled_images import read_manifest

_OF_MAP = [field for field in schema.MAPS if field.name != "image_id"]
PREDICTIONS = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("level", pa.string(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("image", pa.string(), nullable=False),  # path below the folder of the set
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("defect_type", pa.string()),
        pa.field("image_score", pa.float32(), nullable=False),
        *_OF_MAP,  # as scoring runs keep maps
    ]
)


@dataclass(frozen=True)
class Scored:
    """The image scores of one run, in the order of the images."""

    images: tuple[str, ...]  # paths below the folder of the set
    anomalous: npt.NDArray[np.bool_]  # (N,)
    scores: npt.NDArray[np.float32]  # (N,)


def file_of(folder: Path, digest: str) -> Path:
    """Where the predictions of a run lie."""
    return folder / f"{digest}.parquet"


def write_predictions(
    path: Path, run: dict[str, Any], results: Results, test_manifest: str, root: str
) -> None:
    """Write the scores of a run, whole or not at all.

    Args:
        run: its `set`, `method`, `level` and `seed`.
        root: what all URIs of the set start with.
    """
    rows = []
    for image in read_manifest(test_manifest).images.values():
        result = results[image.image_id]
        height, width = result.anomaly_map.shape
        rows.append(
            {name: run[name] for name in ("set", "method", "level", "seed")}
            | {
                "image": image.uri.removeprefix(root),
                "image_id": image.image_id,
                "group": image.group,
                "split": schema.TEST,
                "label": schema.ANOMALOUS if image.anomalous else schema.NORMAL,
                "defect_type": image.defect_type,
                "image_score": result.image_score,
                "map_height": height,
                "map_width": width,
                "height": result.tiling.height,
                "width": result.tiling.width,
                "span_height": result.span[0],
                "span_width": result.span[1],
                "values": result.anomaly_map.astype("<f4").tobytes(),
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist(rows, PREDICTIONS), partial, compression="zstd")
    partial.replace(path)


def read_scores(path: Path) -> Scored:
    """The image scores of a run."""
    table = pq.read_table(path, columns=["image", "label", "image_score"]).sort_by("image")
    anomalous = np.array([label == schema.ANOMALOUS for label in table["label"].to_pylist()])
    return Scored(tuple(table["image"].to_pylist()), anomalous, table["image_score"].to_numpy())
