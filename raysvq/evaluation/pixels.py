"""Pixel AUROC and AU-PRO of any number of anomaly maps, in 24 MiB."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from raysvq.evaluation.metrics import BoolArray

BINS = 1 << 20
_DROPPED_BITS = 11  # of a non-negative float32's 31: 8 exponent and 12 mantissa bits remain
_PIXELS_AT_ONCE = 4_000_000
_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


class PixelCurves:
    """Histograms of map values: of anomaly-free pixels, of marked pixels, of marked components.

    A value's bin is the top 20 bits of the order-preserving key of float32(value - lower): bins are
    2^-12 wide relative to the height above `lower`, however large the raw distances are. What falls
    into one bin counts as tied. States with the same `lower` add up.
    """

    def __init__(self, lower: float) -> None:
        """Start empty.

        Args:
            lower: a lower bound of all values that will come, best their minimum.
        """
        self.lower = float(lower)
        self.components = 0
        self._negatives = np.zeros(BINS, dtype=np.int64)
        self._positives = np.zeros(BINS, dtype=np.int64)
        self._overlap = np.zeros(BINS, dtype=np.float64)

    def update(self, anomaly_map: npt.NDArray[np.float32], mask: BoolArray | None) -> None:
        """Add one image.

        Args:
            anomaly_map: (H, W) at the size the metrics are wanted for, that of the original image.
            mask: (H, W), True where anomalous; None where nothing is.

        Raises:
            ValueError: sizes differ, or a value is not finite or below the lower bound.
        """
        if mask is not None and mask.shape != anomaly_map.shape:
            raise ValueError(f"map is {anomaly_map.shape}, its mask {mask.shape}; expected equal sizes")
        regions = None if mask is None or not mask.any() else self._regions(mask)
        rows = max(1, _PIXELS_AT_ONCE // max(1, anomaly_map.shape[1]))
        for start in range(0, anomaly_map.shape[0], rows):
            part = slice(start, start + rows)
            bins = self._bins(anomaly_map[part])
            if regions is None:
                self._negatives += np.bincount(bins.ravel(), minlength=BINS)
                continue
            numbers, weights = regions[0][part], regions[1]
            marked = numbers > 0
            inside = bins[marked]
            self._negatives += np.bincount(bins[~marked], minlength=BINS)
            self._positives += np.bincount(inside, minlength=BINS)
            self._overlap += np.bincount(inside, weights=weights[numbers[marked]], minlength=BINS)

    def merge(self, other: PixelCurves) -> None:
        """Add what another one has counted.

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
        """The map value below which this share of the marked (or anomaly-free) pixels lies."""
        counts = self._positives if marked else self._negatives
        total = int(counts.sum())
        if not total:
            return None
        key = np.searchsorted(np.cumsum(counts), share * total)
        height = (key.astype(np.uint32) << np.uint32(_DROPPED_BITS)).view(np.float32)
        return self.lower + float(height)

    def _regions(self, mask: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """(H, W) component numbers from 1 up, and the weight of a pixel of each component."""
        numbers, count = ndimage.label(mask, structure=_EIGHT_CONNECTED)
        self.components += count
        areas = np.maximum(np.bincount(numbers[mask]), 1)  # none stands at 0, the unmarked pixels
        return numbers.astype(np.int32, copy=False), 1 / areas

    def _bins(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        height = (values.astype(np.float64) - self.lower).astype(np.float32)
        if not np.isfinite(height).all() or height.min(initial=0) < 0:
            raise ValueError(f"a map value is not finite or below the lower bound {self.lower}")
        return (np.abs(height).view(np.uint32) >> np.uint32(_DROPPED_BITS)).astype(np.int64)
