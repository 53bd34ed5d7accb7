"""Advice where known defects are too small for the resolution."""

from __future__ import annotations

from raysvq.model.card.resolution import FEW, advice, in_cells
from raysvq.settings import TileSettings

WHOLE = TileSettings(mode="whole", size=256)
LARGE = (4096, 3072)  # a cell covers 128 x 96 pixels
CELL = 128 * 96


def test_defects_are_measured_in_cells_of_the_map() -> None:
    assert in_cells((CELL, LARGE), WHOLE, 8) == 1
    assert in_cells((640, LARGE), TileSettings(mode="tiles", size=256), 8) == 10


def test_small_defects_of_large_images_ask_for_tiles() -> None:
    small, large = (FEW * CELL - 1, LARGE), (FEW * CELL, LARGE)
    text = advice([small, small, large], WHOLE, 8)
    assert text is not None
    assert text.startswith("2 of 3 defects with a mask are smaller than 4 cells of the map")
    assert "`--config features-tiles`" in text
    assert advice([small, large, large], WHOLE, 8) is None


def test_nothing_is_advised_where_tiles_would_not_help() -> None:
    assert advice([], WHOLE, 8) is None
    assert advice([(10, (256, 256))], WHOLE, 8) is None
    assert advice([(10, LARGE)], TileSettings(mode="tiles", size=256), 8) is None
