"""Defects of an image: connected components of its mask, and which of them regions of its map overlap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from raysvq.evaluation.metrics import BoolArray
from raysvq.evaluation.result import DefectBand, DefectCounts

_EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)

# (H, W) component numbers from 1 up, 0 where unmarked; and the (components,) areas in pixels.
Components = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]

# Upper limits, and the names of the bands between them.
AREA_LIMITS = (0.001, 0.01, 0.1)  # share of the image
AREA_BANDS = ("under 0.1 %", "0.1 to 1 %", "1 to 10 %", "10 % and more")
PIXEL_LIMITS = (100, 1_000, 10_000)
PIXEL_BANDS = ("under 100 pixels", "100 to 999 pixels", "1,000 to 9,999 pixels", "10,000 pixels and more")


def area_band(share: float) -> str:
    """The band of a marked share of an image."""
    return AREA_BANDS[bisect_right(AREA_LIMITS, share)]


def pixel_band(pixels: int) -> str:
    """The band of the size of a defect."""
    return PIXEL_BANDS[bisect_right(PIXEL_LIMITS, pixels)]


def components(mask: BoolArray) -> Components:
    """The 8-connected components of a mask.

    Args:
        mask: (H, W), True where anomalous.

    Returns:
        (H, W) component numbers from 1 up, 0 where unmarked; and the (components,) areas in pixels.
    """
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return np.asarray(numbers, np.int32), stats[1:, cv2.CC_STAT_AREA].astype(np.int64)


@dataclass(frozen=True)
class Marks:
    """What a mask marks."""

    area: float  # share of the image
    defects: int
    largest: int  # pixels


def measure_mask(mask: BoolArray) -> Marks:
    """The size and number of the defects that a mask marks, at least one."""
    _, areas = components(mask)
    return Marks(float(areas.sum() / mask.size), len(areas), int(areas.max()))


@dataclass(frozen=True)
class Match:
    """The defects of an image, and the regions of its map over the pixel threshold."""

    areas: npt.NDArray[np.int64]  # (defects,) pixels
    found: BoolArray  # (defects,) whether a region overlaps it
    false_regions: int  # that overlap no defect


def match_regions(
    values: npt.NDArray[np.float32],
    span: tuple[int, int],
    parts: Components | None,
    pixel_threshold: float,
) -> Match:
    """Match the regions of an anomaly map to the components of a mask; one pixel in common is enough.

    Regions are those of the score row: 8-connected map cells over the threshold, each as large as the pixels
    that it stands for.

    Args:
        values: (h, w) map cells.
        span: (height, width) in image pixels that the map covers.
        parts: of the mask; None where no pixel is anomalous.
        pixel_threshold: a cell belongs to a region where its value is larger.
    """
    regions, count = ndimage.label(values > pixel_threshold, structure=_EIGHT_CONNECTED)
    if parts is None:
        return Match(np.zeros(0, np.int64), np.zeros(0, dtype=bool), int(count))
    numbers, areas = parts
    rows, columns = np.nonzero(numbers)
    cells = regions[rows * values.shape[0] // span[0], columns * values.shape[1] // span[1]]
    hit = cells > 0
    found = np.zeros(len(areas) + 1, dtype=bool)
    found[numbers[rows[hit], columns[hit]]] = True
    return Match(areas, found[1:], int(count - len(np.unique(cells[hit]))))


@dataclass
class DefectTally:
    """Adds up matches over images."""

    pixel_threshold: float
    images: int = 0
    normal_images: int = 0
    false_regions: int = 0
    _defects: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PIXEL_BANDS, 0))
    _found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PIXEL_BANDS, 0))

    def add(self, match: Match, *, anomalous: bool) -> None:
        """Count one image; the false regions of anomalous images are left out, as no rate is made of them."""
        if not anomalous:
            self.normal_images += 1
            self.false_regions += match.false_regions
            return
        self.images += 1
        for area, found in zip(match.areas.tolist(), match.found.tolist(), strict=True):
            self._defects[pixel_band(area)] += 1
            self._found[pixel_band(area)] += found

    def counts(self) -> DefectCounts | None:
        """What was counted; None where no image was."""
        if not self.images and not self.normal_images:
            return None
        bands: Sequence[DefectBand] = [
            DefectBand(name, number, self._found[name]) for name, number in self._defects.items() if number
        ]
        return DefectCounts(
            pixel_threshold=self.pixel_threshold,
            defects=sum(band.defects for band in bands),
            found=sum(band.found for band in bands),
            by_size=tuple(bands),
            images=self.images,
            normal_images=self.normal_images,
            false_regions=self.false_regions,
        )
