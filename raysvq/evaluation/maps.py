"""Kept anomaly maps, one in memory at a time, and the pixel metrics over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysvq import schema
from raysvq.errors import DataError
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.pixels import PixelCurves
from raysvq.evaluation.tables import TestImage, committed_rows
from raysvq.imaging.overlay import upsample
from raysvq.log import ProgressMeter


@dataclass(frozen=True)
class AnomalyMap:
    """A map as stored, at the resolution of the encoder's grid."""

    image_id: str
    values: npt.NDArray[np.float32]  # (h, w)
    span: tuple[int, int]  # (height, width) in pixels that the map spans
    size: tuple[int, int]  # (height, width) of the image

    def full_size(self) -> npt.NDArray[np.float32]:
        """(H, W) at the size of the image; interpolation never leaves the range of the values."""
        full = upsample(self.values, self.span, self.size)
        return np.clip(full, self.values.min(), self.values.max(), out=full)


@dataclass(frozen=True)
class PixelResult:
    """Pixel curves: of all images, and of each defect type against the normal images."""

    overall: PixelCurves | None  # None where no map of a labelled test image was kept
    by_defect_type: dict[str | None, PixelCurves]  # None: images for which the manifest has none
    without_map: int
    without_mask: int  # anomalous images with a map, but no usable mask


def stream_maps(scores: str, image_ids: Sequence[str]) -> Iterator[AnomalyMap]:
    """The committed maps of some images.

    Raises:
        DataError: a map has another number of values than its row says, or one that is not finite.
    """
    wanted = pa.array(image_ids, pa.string())
    for batch in committed_rows(scores, "maps", schema.MAPS.names, wanted, rows=1):
        row = batch.to_pylist()[0]
        values = np.frombuffer(row["values"], dtype="<f4")
        height, width = row["map_height"], row["map_width"]
        if len(values) != height * width or not np.isfinite(values).all():
            raise DataError(
                f"scores {scores}: the map of image {row['image_id']} has {len(values)} values, "
                f"expected {height} x {width} finite ones; score it again"
            )
        yield AnomalyMap(
            image_id=row["image_id"],
            values=values.reshape(height, width).astype(np.float32),
            span=(row["span_height"], row["span_width"]),
            size=(row["height"], row["width"]),
        )


def measure_pixels(scores: str, images: Mapping[str, TestImage], masks: MaskReader) -> PixelResult:
    """Fill pixel curves from the kept maps of some labelled images: 24 MiB a defect type.

    Args:
        images: by image id.
        masks: reads the masks of the anomalous ones; the normal ones count as unmarked.
    """
    ids = list(images)
    meter = ProgressMeter(None, "maps", "reading")
    maps = meter.watched(stream_maps(scores, ids))
    lower = min((float(found.values.min()) for found in maps), default=None)
    if lower is None:
        return PixelResult(None, {}, without_map=len(images), without_mask=0)
    normal = PixelCurves(lower)
    by_type: dict[str | None, PixelCurves] = {}
    seen = without_mask = 0
    meter = ProgressMeter(meter.done, "maps", "measuring")
    for found in meter.watched(stream_maps(scores, ids)):
        seen += 1
        image = images[found.image_id]
        if not image.anomalous:
            normal.update(found.full_size(), None)
            continue
        mask = masks.read(image.mask_uri, *found.size)
        if mask is None:
            without_mask += 1
            continue
        name = image.defect_type or None
        if name not in by_type:
            by_type[name] = PixelCurves(lower)
        by_type[name].update(found.full_size(), mask)
    overall = PixelCurves(lower)
    for curves in (normal, *by_type.values()):
        overall.merge(curves)
    for curves in by_type.values():
        curves.merge(normal)
    return PixelResult(overall, by_type, len(images) - seen, without_mask)
