"""Pixel AUROC and AU-PRO of any number of anomaly maps, in 24 MiB per defect type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysvq import schema
from raysvq.errors import DataError
from raysvq.evaluation.defects import Components, DefectTally, Match, components, match_regions
from raysvq.evaluation.labelled_images import TestImage
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.metrics import BoolArray
from raysvq.evaluation.result import DefectCounts
from raysvq.evaluation.score_rows import committed_rows
from raysvq.imaging.overlay import upsample
from raysvq.log import ProgressMeter

BINS = 1 << 20
_DROPPED_BITS = 11  # of a non-negative float32's 31: 8 exponent and 12 mantissa bits remain
_PIXELS_AT_ONCE = 4_000_000
_TYPES = 20  # defect types that have pixel curves of their own


@dataclass(frozen=True)
class AnomalyMap:
    """A stored anomaly map, at the resolution of the encoder's grid."""

    image_id: str
    values: npt.NDArray[np.float32]  # (h, w)
    span: tuple[int, int]  # (height, width) in image pixels that the map covers
    size: tuple[int, int]  # (height, width) of the image

    def full_size(self) -> npt.NDArray[np.float32]:
        """(H, W) at the size of the image; interpolation stays within the range of the values."""
        full = upsample(self.values, self.span, self.size)
        return np.clip(full, self.values.min(), self.values.max(), out=full)


class PixelCurves:
    """Histograms of map values, for anomaly-free pixels, marked pixels and marked components.

    A value's bin is the top 20 bits of the order-preserving key of float32(value - lower): a bin's
    width is 2^-12 of its height above `lower`, however large the raw distances are. Values in one bin
    count as ties. Curves with the same `lower` can be merged.
    """

    def __init__(self, lower: float) -> None:
        """Start empty.

        Args:
            lower: a lower bound of all values to come, best their minimum.
        """
        self.lower = float(lower)
        self.components = 0
        self._negatives = np.zeros(BINS, dtype=np.int64)
        self._positives = np.zeros(BINS, dtype=np.int64)
        self._overlap = np.zeros(BINS, dtype=np.float64)

    def update(
        self, anomaly_map: npt.NDArray[np.float32], mask: BoolArray | None, parts: Components | None = None
    ) -> None:
        """Add one image.

        Args:
            anomaly_map: (H, W) at the size of the original image.
            mask: (H, W), True where anomalous; None where no pixel is.
            parts: its components, where they are known already.

        Raises:
            ValueError: sizes differ, or a value is not finite or below the lower bound.
        """
        if mask is not None and mask.shape != anomaly_map.shape:
            raise ValueError(f"map is {anomaly_map.shape}, its mask {mask.shape}; expected equal sizes")
        regions = None if mask is None or not mask.any() else self._regions(parts or components(mask))
        rows = max(1, _PIXELS_AT_ONCE // max(1, anomaly_map.shape[1]))
        for start in range(0, anomaly_map.shape[0], rows):
            part = slice(start, start + rows)
            bins = self._bins(anomaly_map[part])
            if regions is None:
                np.add.at(self._negatives, bins.ravel(), 1)
                continue
            numbers, weights = regions[0][part], regions[1]
            marked = numbers > 0
            inside = bins[marked]
            np.add.at(self._negatives, bins[~marked], 1)
            np.add.at(self._positives, inside, 1)
            np.add.at(self._overlap, inside, weights[numbers[marked]])

    def merge(self, other: PixelCurves) -> None:
        """Add the counts of other curves.

        Raises:
            ValueError: the lower bounds differ, so the bins mean different values.
        """
        if other.lower != self.lower:
            raise ValueError(f"lower bounds differ: {self.lower} and {other.lower}")
        self.components += other.components
        self._negatives += other._negatives
        self._positives += other._positives
        self._overlap += other._overlap

    def auroc(self) -> float | None:
        """Pixel AUROC; None without a marked or without an anomaly-free pixel."""
        normal, marked = int(self._negatives.sum()), int(self._positives.sum())
        if not normal or not marked:
            return None
        below = (np.cumsum(self._negatives) - 0.5 * self._negatives) / normal
        return float((self._positives / marked * below).sum())

    def au_pro(self, fpr_limit: float = 0.3) -> float | None:
        """Area under the per-region overlap up to a false-positive rate, divided by that rate.

        The definition of the MVTec AD evaluation: 8-connected components of equal weight, the rate
        over all anomaly-free pixels, linear interpolation at the limit. None without a marked or
        without an anomaly-free pixel.
        """
        normal = int(self._negatives.sum())
        if not normal or not self.components:
            return None
        fpr = np.concatenate([[0.0], np.cumsum(self._negatives[::-1]) / normal])
        pro = np.concatenate([[0.0], np.cumsum(self._overlap[::-1]) / self.components])
        inside = int(np.searchsorted(fpr, fpr_limit, side="right"))
        at_limit = np.interp(fpr_limit, fpr[inside - 1 : inside + 1], pro[inside - 1 : inside + 1])
        x = np.append(fpr[:inside], fpr_limit)
        y = np.append(pro[:inside], at_limit)
        return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2 / fpr_limit)

    def level(self, share: float, *, marked: bool) -> float | None:
        """A quantile of the map values; None without such pixels.

        Args:
            share: of the pixels that lie below it, 0 to 1.
            marked: whether it is of marked pixels, else of anomaly-free ones.
        """
        counts = self._positives if marked else self._negatives
        total = int(counts.sum())
        if not total:
            return None
        key = np.searchsorted(np.cumsum(counts), share * total)
        height = (key.astype(np.uint32) << np.uint32(_DROPPED_BITS)).view(np.float32)
        return self.lower + float(height)

    def _regions(self, parts: Components) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """(H, W) component numbers from 1 up, and the weight of a pixel of each component."""
        numbers, areas = parts
        self.components += len(areas)
        return numbers, np.concatenate([[0.0], 1 / areas])

    def _bins(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        height = (values.astype(np.float64) - self.lower).astype(np.float32)
        if not np.isfinite(height).all() or height.min(initial=0) < 0:
            raise ValueError(f"a map value is not finite or below the lower bound {self.lower}")
        return (np.abs(height).view(np.uint32) >> np.uint32(_DROPPED_BITS)).astype(np.int64)


@dataclass(frozen=True)
class PixelResult:
    """Pixel curves of all images, and of each defect type against the normal images; and defects found."""

    overall: PixelCurves | None  # None where no map of a labelled test image is stored
    by_defect_type: dict[str | None, PixelCurves]  # None: anomalous images without a defect type
    matches: dict[str, Match]  # by image id; empty without a pixel threshold
    defects: DefectCounts | None
    without_map: int
    without_mask: int  # anomalous images with a map, but no usable mask
    types_left_out: int  # that have no curves of their own


def stream_maps(scores: str, image_ids: Sequence[str]) -> Iterator[AnomalyMap]:
    """The committed maps of some images, one at a time.

    Raises:
        DataError: a map has another number of values than its row says, or a value that is not finite.
    """
    wanted = pa.array(image_ids, pa.string())
    batches = committed_rows(scores, "maps", schema.MAPS.names, wanted)
    for row in (row for batch in batches for row in batch.to_pylist()):
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


def measure_pixels(
    scores: str, images: Mapping[str, TestImage], masks: MaskReader, pixel_threshold: float | None = None
) -> PixelResult:
    """Fill pixel curves from the stored maps of labelled images, and match their regions to defects.

    Curves take 24 MiB each: the 20 most frequent defect types have their own.

    Args:
        images: image id -> labelled test image.
        masks: reads the masks of anomalous images; normal images count as unmarked.
        pixel_threshold: of the model; None where it is not known, so that there are no regions.
    """
    ids = list(images)
    meter = ProgressMeter(None, "maps", "reading")
    maps = meter.watched(stream_maps(scores, ids))
    lower = min((float(found.values.min()) for found in maps), default=None)
    if lower is None:
        return PixelResult(None, {}, {}, None, len(images), without_mask=0, types_left_out=0)
    types = Counter(image.defect_type or None for image in images.values() if image.anomalous)
    by_type = {name: PixelCurves(lower) for name, _ in types.most_common(_TYPES)}
    normal, rest = PixelCurves(lower), PixelCurves(lower)
    matches: dict[str, Match] = {}
    tally = None if pixel_threshold is None else DefectTally(pixel_threshold)
    seen = without_mask = 0
    meter = ProgressMeter(meter.done, "maps", "measuring")
    for found in meter.watched(stream_maps(scores, ids)):
        seen += 1
        image = images[found.image_id]
        mask = masks.read(image.mask_uri, *found.size) if image.anomalous else None
        if image.anomalous and mask is None:
            without_mask += 1
            continue
        curves = by_type.get(image.defect_type or None, rest) if image.anomalous else normal
        parts = None if mask is None else components(mask)
        curves.update(found.full_size(), mask, parts)
        if tally is not None:
            match = match_regions(found.values, found.span, parts, tally.pixel_threshold)
            matches[found.image_id] = match
            tally.add(match, anomalous=image.anomalous)
    overall = PixelCurves(lower)
    for curves in (normal, rest, *by_type.values()):
        overall.merge(curves)
    measured = {name: curves for name, curves in by_type.items() if curves.components}
    for curves in measured.values():
        curves.merge(normal)
    return PixelResult(
        overall=overall,
        by_defect_type=measured,
        matches=matches,
        defects=tally.counts() if tally else None,
        without_map=len(images) - seen,
        without_mask=without_mask,
        types_left_out=max(0, len(types) - _TYPES),
    )
