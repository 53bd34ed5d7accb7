"""From distances on a grid to anomaly maps, tile scores, image scores and regions. No PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.settings import AnomalySettings

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """A connected part of an anomaly map over a threshold, in pixels of the image."""

    x: int
    y: int
    w: int
    h: int
    area: int
    peak: float


def tile_scores(distances: Floats) -> Floats:
    """Scores of tiles, from the distances at their grid positions. (T, h, w) -> (T,)"""
    # Eq. 5: s(U) = ‖E(U) − Q(U)‖₂ over the whole grid
    squares = np.square(distances, dtype=np.float64).sum(axis=(1, 2))
    return np.asarray(np.sqrt(squares), np.float32)


def image_score(terms: Floats, scores: Floats, settings: AnomalySettings) -> float:
    """Pool an image's map, or its tiles' scores, into one number; larger is more anomalous.

    Args:
        terms: (R, N) values of the terms whose sum is the map. Each is pooled by itself, and then they are
            added: what labels have taught counts in full wherever in the image it is found.
    """
    if settings.pooling == "tile_max":
        return float(scores.max())
    count = 1 if settings.pooling == "map_max" else min(settings.top_k, terms.shape[1])
    largest = np.partition(terms, -count, axis=1)[:, -count:]
    return float(largest.mean(axis=1, dtype=np.float64).sum())


def share_over(map_values: Floats, threshold: float) -> float:
    """Share of a map's values above a threshold, 0 to 1."""
    return float((map_values > threshold).mean())


def find_regions(
    anomaly_map: Floats, threshold: float, span: tuple[int, int], size: tuple[int, int]
) -> list[Region]:
    """8-connected regions of the map above a threshold, largest peak first; of equals the first from the top.

    Args:
        span: (height, width) in image pixels that the map spans.
        size: (height, width) of the image; regions end at its edge.
    """
    over = anomaly_map > threshold
    if not over.any():
        return []
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(over.view(np.uint8), connectivity=8)
    cells = np.flatnonzero(over)
    owners = np.asarray(parts.ravel()[cells], np.intp)
    peaks = np.full(count, -np.inf, np.float32)  # of part 0, which is what is not over: -inf
    np.maximum.at(peaks, owners, anomaly_map.ravel()[cells])
    firsts = np.full(count, parts.size)
    np.minimum.at(firsts, owners, cells)
    down, across = span[0] / anomaly_map.shape[0], span[1] / anomaly_map.shape[1]
    regions = []
    for part in np.lexsort((firsts, -peaks))[:-1]:
        column, row, columns, rows, n_cells = boxes[part].tolist()
        top, bottom = _extent(row, rows, down, size[0])
        left, right = _extent(column, columns, across, size[1])
        box = (bottom - top) * (right - left)
        area = min(max(round(n_cells * down * across), 1), box)
        regions.append(Region(left, top, right - left, bottom - top, area, float(peaks[part])))
    return regions


def _extent(start: int, cells: int, scale: float, length: int) -> tuple[int, int]:
    """From, to in pixels: inside the image, and at least one pixel where cells are smaller than that."""
    first = min(round(start * scale), length - 1)
    return first, max(first + 1, min(round((start + cells) * scale), length))
