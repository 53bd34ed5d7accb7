"""The training tiles of a manifest, in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raysvq.errors import DataError
from raysvq.settings import Settings
from raysvq.training.samples import require_marked

Build = Callable[..., Settings]


def test_outliers_without_an_anomalous_tile_are_refused(small: Build) -> None:
    tiles = small(tiles={"anomalous_fraction": 0.5}).tiles
    with pytest.raises(DataError, match=r"none of the 3 labelled outliers .* tiles\.anomalous_fraction=0\.5"):
        require_marked(0, 3, tiles)
    require_marked(1, 3, tiles)
