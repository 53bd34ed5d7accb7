"""Manifest -> tiles for training, as a stream of Ray Data or all in memory.

Rows carry URIs until the task that fetches, decodes and cuts an image; what comes out has one
fixed shape, so blocks stay plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from raysvq.storage import configure, filesystem, read_bytes
from raysvq.training.shuffling import Columns

IMAGES_PER_BLOCK = 64
IMAGES_PER_TASK = 16

Batch = dict[str, npt.NDArray[Any]]
Cutter = Callable[[Batch], Iterator[Batch]]  # a batch an image: the tiles of one are in memory at a time


def normal_tiles(manifest: str, settings: Settings, progress: Progress) -> ray.data.Dataset:
    """Tiles of the normal training images: `tile` (size, size, C) uint16 over the full scale.

    With `training.unlabelled`, those of images without a label too, and `unknown`, whether a row is one
    of them. An image that cannot be read is left out, and named through `progress`.
    """
    wanted = (col("split") == TRAIN) & (col("label") == NORMAL)
    if settings.training.unlabelled:
        wanted = wanted | (col("label") == UNKNOWN)
    fs, path = filesystem(manifest)
    # No partitioning: a folder named split=train, or the like, above the manifest says nothing of its rows.
    rows = ray.data.read_parquet(path, filesystem=fs, partitioning=None)
    rows = rows.select_columns(["uri", "split", "label"])
    return _cut(rows.filter(expr=wanted), normal_cutter(settings, progress))


def outlier_tiles(manifest: str, settings: Settings, cell: int, progress: Progress) -> ray.data.Dataset:
    """Anomalous tiles of the labelled training outliers, by the label rule.

    Rows hold `tile` as above and `weight` (size / cell, size / cell) float32: the marked share of
    each grid position; all ones where an image has no mask, which only whole-image mode can use.
    """
    # They are few, and read here: Ray's readers of Parquet end with the machine that they are on.
    rows = select(manifest, split=TRAIN, label=ANOMALOUS).select(["uri", "mask_uri"])
    return _cut(ray.data.from_arrow(rows), outlier_cutter(settings, cell, progress))


def _cut(rows: ray.data.Dataset, cutter: Cutter) -> ray.data.Dataset:
    blocks = rows.repartition(target_num_rows_per_block=IMAGES_PER_BLOCK)
    return blocks.map_batches(cutter, batch_size=IMAGES_PER_TASK, batch_format="numpy")


def normal_cutter(settings: Settings, progress: Progress) -> Cutter:
    """Manifest rows -> the tiles of an image, and whether it is unlabelled where that matters."""
    unlabelled = settings.training.unlabelled

    def rows(tiles: npt.NDArray[np.uint16], unknown: bool) -> Batch:
        return {"tile": tiles} | ({"unknown": np.full(len(tiles), unknown)} if unlabelled else {})

    def cut_normals(batch: Batch) -> Iterator[Batch]:
        configure(settings.storage)
        yield rows(_no_tiles(settings.tiles), False)  # the columns' types, should no image be readable
        unknown = batch["label"] == UNKNOWN if unlabelled else np.zeros(len(batch["uri"]), bool)
        for uri, is_unknown in zip(batch["uri"], unknown, strict=True):
            if (loaded := _load(uri, settings, progress)) is not None:
                yield rows(loaded[1], is_unknown)

    return cut_normals


def outlier_cutter(settings: Settings, cell: int, progress: Progress) -> Cutter:
    """Manifest rows -> the anomalous tiles of an image, and what of their grid is marked."""
    side = settings.tiles.size // cell

    def cut_outliers(batch: Batch) -> Iterator[Batch]:
        configure(settings.storage)
        yield {"tile": _no_tiles(settings.tiles), "weight": np.zeros((0, side, side), np.float32)}
        for uri, mask_uri in zip(batch["uri"], batch["mask_uri"], strict=True):
            if (loaded := _load(uri, settings, progress)) is None:
                continue
            tiling, tiles = loaded
            mask = _mask(uri, mask_uri, tiling, progress)
            if mask_uri and mask is None:
                continue
            marked, weight = _mark(mask, tiling, settings.tiles, cell)
            yield {"tile": tiles[marked], "weight": weight[marked]}

    return cut_outliers


def _mask(uri: str, mask_uri: str | None, tiling: Tiling, progress: Progress) -> npt.NDArray[np.bool_] | None:
    """(H, W), or None where there is no mask or it cannot be used, which is said."""
    reader = MaskReader()
    mask = reader.read(mask_uri, tiling.height, tiling.width)
    for name, problem in reader.problems.items():
        progress(f"left out of training: {uri} (its mask {name} {problem})")
    return mask


def _mark(
    mask: npt.NDArray[np.bool_] | None, tiling: Tiling, tiles: TileSettings, cell: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Which tiles are anomalous (T,), and the marked share of their grid positions (T, h, w)."""
    side = tiling.size // cell
    if mask is None:
        return np.full(len(tiling), tiling.whole), np.ones((len(tiling), side, side), np.float32)
    fractions = mask_fractions(mask, tiling.rects())
    pixels = cut(mask.astype(np.uint8) * np.uint8(255), tiling).astype(np.float32) / 255
    shares = pixels.reshape(len(tiling), side, cell, side, cell).mean(axis=(2, 4))
    return is_anomalous(fractions, 0.0 if tiling.whole else tiles.anomalous_fraction), shares


def _load(uri: str, settings: Settings, progress: Progress) -> tuple[Tiling, npt.NDArray[np.uint16]] | None:
    try:
        return load_tiles(read_bytes(uri), settings.tiles, settings.scoring)
    except (DecodeError, OSError) as error:
        progress(f"left out of training: {uri} ({error})")
        return None


def _no_tiles(tiles: TileSettings) -> npt.NDArray[np.uint16]:
    return np.zeros((0, tiles.size, tiles.size, tiles.channels), np.uint16)


@dataclass(frozen=True)
class Samples:
    """Columns as `raysvq.training.data_loading.Tiles` describes them."""

    normal: Columns
    outlier: Columns | None  # None: no labelled outlier


def training_samples(manifest: str, settings: Settings, progress: Progress) -> Samples:
    """Decode and cut all training images that are labelled; those that cannot be read are named.

    Raises:
        DataError: there are labelled outliers, and none has an anomalous tile.
    """
    outliers = select(manifest, split=TRAIN, label=ANOMALOUS)
    outlier = _cut_here(outliers, outlier_cutter(settings, cell_size(settings.model), progress))
    if len(outliers):
        require_marked(len(outlier["tile"]), len(outliers), settings.tiles)
    normal = _cut_here(select(manifest, split=TRAIN, label=NORMAL), normal_cutter(settings, progress))
    return Samples(normal, outlier if len(outliers) else None)


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


def _cut_here(rows: pa.Table, cutter: Cutter) -> Columns:
    names = ("uri", "mask_uri", "label")
    batch: Batch = {name: np.array(rows[name].to_pylist(), object) for name in names}
    found = list(cutter(batch))
    return {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
