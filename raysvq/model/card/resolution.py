"""Whether the defects that are known are large enough for the resolution of a model."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from raysvq.data.training_set import Size
from raysvq.settings import TileSettings

FEW = 4  # map cells; of a smaller defect the map says little
FINER = "features-tiles"  # the configuration at full resolution

Defect = tuple[int, Size]  # pixels of an image's largest defect, and the image's width and height


def cell_in_image(tiles: TileSettings, cell: int, size: Size) -> tuple[float, float]:
    """Width and height of a map cell, in pixels of the original image.

    Args:
        cell: pixels along its side at the resolution of a tile.
        size: width and height of the image, pixels.
    """
    if tiles.mode == "tiles":
        return cell, cell
    return size[0] * cell / tiles.size, size[1] * cell / tiles.size


def in_cells(defect: Defect, tiles: TileSettings, cell: int) -> float:
    """Size of a defect in map cells."""
    pixels, size = defect
    width, height = cell_in_image(tiles, cell, size)
    return pixels / (width * height)


def advice(defects: Sequence[Defect], tiles: TileSettings, cell: int) -> str | None:
    """What to do where half of the defects are smaller than a few cells; None where nothing would help.

    Tiles help where images are resized, and are larger than a tile.
    """
    if tiles.mode == "tiles" or not defects:
        return None
    small = sum(in_cells(defect, tiles, cell) < FEW for defect in defects)
    shorter = median(min(size) for _, size in defects)
    if 2 * small < len(defects) or shorter <= tiles.size:
        return None
    return (
        f"{small} of {len(defects)} defects with a mask are smaller than {FEW} cells of the map, since images"
        f" are resized to {tiles.size} x {tiles.size} pixels; `--config {FINER}` sees them at full resolution"
    )
