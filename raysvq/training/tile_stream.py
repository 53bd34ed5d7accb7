"""Training tiles of a manifest, as a Ray Data stream or all in memory.

Rows carry URIs until the task that fetches, decodes and cuts an image. Tiles have one shape, so blocks are
plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data
from ray.data.expressions import col

from raysvq.data.manifest import select
from raysvq.errors import DataError
from raysvq.evaluation.masks import MaskReader
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.pixels import load_tiles
from raysvq.imaging.tiling import Tiling, cut, is_anomalous, mask_fractions
from raysvq.model.network import cell_size
from raysvq.runtime.progress import Progress
from raysvq.schema import ANOMALOUS, NORMAL, TRAIN, UNKNOWN
from raysvq.settings import Settings, TileSettings
from raysvq.storage import ChangedError, configure, filesystem, read_version
from raysvq.training.decoding import Attempts, Guard, guarded
from raysvq.training.shuffling import Columns, join

IMAGES_PER_BLOCK = 64
IMAGES_PER_TASK = 16

Batch = dict[str, npt.NDArray[Any]]
Row = dict[str, Any]
Cutter = Callable[[pa.Table], Iterator[Batch]]  # one batch per image, to hold few tiles in memory

_VERSION = ["uri", "size_bytes", "etag", "mtime"]  # columns for `read_version`


@dataclass(frozen=True)
class Samples:
    """Columns as `raysvq.training.data_loading.Tiles` describes them."""

    normal: Columns
    outlier: Columns | None  # None: no labelled outlier


def normal_tiles(
    manifest: str,
    settings: Settings,
    progress: Progress,
    attempts: Attempts | None = None,
    splits: Sequence[str] = (TRAIN,),
) -> ray.data.Dataset:
    """Tiles of the normal images of some splits: `tile` (S, S, C) uint16 over the full scale, S = tiles.seen.

    With `training.unlabelled` also tiles of images without a label. The column `unknown` marks tiles that may
    show a defect: these, and without `training.verified` all. An image that cannot be read, or has changed
    since it was indexed, is left out and named through `progress`.

    Args:
        attempts: see `guarded`.
    """
    wanted = col("split").is_in(list(splits)) & (col("label") == NORMAL)
    if settings.training.unlabelled:
        wanted = wanted | (col("label") == UNKNOWN)
    fs, path = filesystem(manifest)
    # No partitioning: a folder above the manifest may be named like one, such as split=train.
    rows = ray.data.read_parquet(path, filesystem=fs, partitioning=None)
    rows = rows.select_columns([*_VERSION, "split", "label"])
    return _cut(rows.filter(expr=wanted), normal_cutter(settings, progress, attempts))


def outlier_tiles(
    manifest: str,
    settings: Settings,
    cell: int,
    progress: Progress,
    attempts: Attempts | None = None,
    splits: Sequence[str] = (TRAIN,),
) -> ray.data.Dataset:
    """Anomalous tiles of the labelled outliers of some splits, by the label rule.

    Rows have `tile` as in `normal_tiles`, and `weight` (S / cell, S / cell) float32, the marked share of each
    grid position, the halo's too. In whole-image mode an image without a mask has weight 1 everywhere.
    """
    # The driver reads these few rows: Ray's Parquet readers are lost with the machine they run on.
    rows = select(manifest, split=splits, label=ANOMALOUS).select([*_VERSION, "mask_uri"])
    return _cut(ray.data.from_arrow(rows), outlier_cutter(settings, cell, progress, attempts))


def training_samples(manifest: str, settings: Settings, progress: Progress) -> Samples:
    """Decode and cut all labelled training images; those that cannot be used are named.

    Raises:
        DataError: there are labelled outliers, and none has an anomalous tile.
    """
    outliers = select(manifest, split=TRAIN, label=ANOMALOUS)
    outlier = outlier_samples(outliers, settings, progress) if len(outliers) else None
    normal = normal_samples(select(manifest, split=TRAIN, label=NORMAL), settings, progress)
    return Samples(normal, outlier)


def normal_samples(rows: pa.Table, settings: Settings, progress: Progress) -> Columns:
    """The tiles of these rows of a manifest."""
    return join(list(normal_cutter(settings, progress)(rows)))


def outlier_samples(
    rows: pa.Table, settings: Settings, progress: Progress, attempts: Attempts | None = None
) -> Columns:
    """The anomalous tiles of these rows of a manifest.

    Raises:
        DataError: there is none.
    """
    columns = join(list(outlier_cutter(settings, cell_size(settings.model), progress, attempts)(rows)))
    require_marked(len(columns["tile"]), len(rows), settings.tiles)
    return columns


def require_marked(tiles: int, outliers: int, settings: TileSettings) -> None:
    """Refuse labelled outliers that have no anomalous tile.

    Raises:
        DataError: `tiles` is 0.
    """
    if not tiles:
        raise DataError(
            f"none of the {outliers} labelled outliers has an anomalous tile: their masks mark less than"
            f" tiles.anomalous_fraction={settings.anomalous_fraction:g} of every tile, or cannot be read;"
            " lower that setting, or index with split.outliers=0 to train without outliers"
        )


def _cut(rows: ray.data.Dataset, cutter: Cutter) -> ray.data.Dataset:
    blocks = rows.repartition(target_num_rows_per_block=IMAGES_PER_BLOCK)
    return blocks.map_batches(cutter, batch_size=IMAGES_PER_TASK, batch_format="pyarrow")


def normal_cutter(settings: Settings, progress: Progress, attempts: Attempts | None = None) -> Cutter:
    """A function from manifest rows to the tiles of each image, with `unknown` where that applies."""
    training = settings.training

    def columns(tiles: npt.NDArray[np.uint16], label: str | None) -> Batch:
        if training.verified and not training.unlabelled:
            return {"tile": tiles}
        unknown = not training.verified or label == UNKNOWN
        return {"tile": tiles, "unknown": np.full(len(tiles), unknown)}

    def cut_normals(table: pa.Table) -> Iterator[Batch]:
        configure(settings.storage)
        yield columns(_no_tiles(settings.tiles), None)  # gives the columns' types if no image can be read
        rows = table.to_pylist()
        with guarded(_task(rows), settings, attempts) as guard:
            for row in rows:
                if (loaded := _load(row, settings, progress, guard)) is not None:
                    yield columns(loaded[1], row["label"])

    return cut_normals


def outlier_cutter(
    settings: Settings, cell: int, progress: Progress, attempts: Attempts | None = None
) -> Cutter:
    """A function from manifest rows to the anomalous tiles of each image, and their weights.

    Where the rows have a `number`, tiles have it too.
    """
    side = settings.tiles.seen // cell

    def cut_outliers(table: pa.Table) -> Iterator[Batch]:
        configure(settings.storage)
        none: Batch = {"tile": _no_tiles(settings.tiles), "weight": np.zeros((0, side, side), np.float32)}
        if "number" in table.column_names:
            none["number"] = np.zeros(0, np.int64)
        yield none
        rows = table.to_pylist()
        with guarded(_task(rows), settings, attempts) as guard:
            for row in rows:
                if (loaded := _load(row, settings, progress, guard)) is None:
                    continue
                tiling, tiles = loaded
                mask = _mask(row, tiling, progress)
                if row["mask_uri"] and mask is None:
                    continue
                marked, weight = _mark(mask, tiling, settings.tiles, cell)
                found: Batch = {"tile": tiles[marked], "weight": weight[marked]}
                if "number" in row:
                    found["number"] = np.full(len(found["tile"]), row["number"])
                yield found

    return cut_outliers


def _task(rows: list[Row]) -> str:
    return rows[0]["uri"] if rows else ""


def _mask(row: Row, tiling: Tiling, progress: Progress) -> npt.NDArray[np.bool_] | None:
    """(H, W), or None where there is no mask, or one that cannot be used, which is reported."""
    reader = MaskReader()
    mask = reader.read(row["mask_uri"], tiling.height, tiling.width)
    for name, problem in reader.problems.items():
        progress(f"left out of training: {row['uri']} (its mask {name} {problem})")
    return mask


def _mark(
    mask: npt.NDArray[np.bool_] | None, tiling: Tiling, tiles: TileSettings, cell: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Which tiles are anomalous (T,), and the marked share of their positions, the halo's too (T, h, w)."""
    side = tiles.seen // cell
    if mask is None:
        return np.full(len(tiling), tiling.whole), np.ones((len(tiling), side, side), np.float32)
    fractions = mask_fractions(mask, tiling.rects())
    pixels = cut(mask.astype(np.uint8) * np.uint8(255), tiling).astype(np.float32) / 255
    shares = pixels.reshape(len(tiling), side, cell, side, cell).mean(axis=(2, 4))
    return is_anomalous(fractions, 0.0 if tiling.whole else tiles.anomalous_fraction), shares


def _load(
    row: Row, settings: Settings, progress: Progress, guard: Guard
) -> tuple[Tiling, npt.NDArray[np.uint16]] | None:
    if row["uri"] in guard.known:
        return None
    try:
        content = read_version(*(row[name] for name in _VERSION))
        guard.require_decodable(row["uri"], content)
        return load_tiles(content, settings.tiles, settings.scoring, guard.deadline)
    except ChangedError as error:
        progress(f"left out of training: {row['uri']} (changed since it was indexed: {error}; index again)")
    except (DecodeError, OSError) as error:
        progress(f"left out of training: {row['uri']} ({error})")
    return None


def _no_tiles(tiles: TileSettings) -> npt.NDArray[np.uint16]:
    return np.zeros((0, tiles.seen, tiles.seen, tiles.channels), np.uint16)
