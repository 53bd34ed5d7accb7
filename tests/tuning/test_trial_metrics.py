"""The metrics of trials, and which of them a manifest allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from raysvq.errors import DataError
from raysvq.imaging.signals import Signals
from raysvq.imaging.tiling import plan_tiles
from raysvq.model.scorer import ImageResult
from raysvq.settings import Settings
from raysvq.training.validation import ValidationImage
from raysvq.tuning.trial_metrics import Evaluated, counted_images, metric_of, metric_value

Build = Callable[..., Settings]
NORMAL, ANOMALOUS, MARKED = (
    ValidationImage("/n.png", False),
    ValidationImage("/a.png", True),
    ValidationImage("/m.png", True, "/mask.png"),
)


def _asking(small: Build, metric: str) -> Settings:
    settings = small(tiles={"size": 32})
    return settings.model_copy(update={"tuning": settings.tuning.model_copy(update={"metric": metric})})


@pytest.mark.parametrize(
    ("asked", "images", "found"),
    [
        ("auto", [NORMAL, ANOMALOUS], "image_auroc"),
        ("auto", [NORMAL], "synthetic_auroc"),
        ("synthetic_auroc", [NORMAL, ANOMALOUS], "synthetic_auroc"),
        ("au_pro", [NORMAL, MARKED], "au_pro"),
    ],
)
def test_a_metric_that_the_images_allow(
    small: Build, asked: str, images: list[ValidationImage], found: str
) -> None:
    assert metric_of(_asking(small, asked), images, "m") == found


@pytest.mark.parametrize(
    ("metric", "mode", "counted"),
    [
        ("image_auroc", "tiles", (1, 2)),
        ("au_pro", "whole", (1, 1)),
        ("tile_auroc", "tiles", (1, 1)),
        ("tile_auroc", "whole", (1, 2)),
        ("synthetic_auroc", "tiles", (1, 2)),
    ],
)
def test_images_count_that_the_metric_is_taken_over(
    small: Build, metric: str, mode: str, counted: tuple[int, int]
) -> None:
    assert counted_images(metric, [NORMAL, ANOMALOUS, MARKED], small(tiles={"mode": mode})) == counted


@pytest.mark.parametrize(
    ("asked", "images", "problem"),
    [
        ("auto", [ANOMALOUS], "manifest m has no normal images in its validation split"),
        ("image_auroc", [NORMAL], "image_auroc needs anomalous images, and manifest m has none"),
        ("au_pro", [NORMAL, ANOMALOUS], "au_pro needs masks, and manifest m has none of the 1"),
        ("tile_auroc", [NORMAL, ANOMALOUS], "tile_auroc needs masks"),
    ],
)
def test_a_metric_that_they_do_not_allow(
    small: Build, asked: str, images: list[ValidationImage], problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        metric_of(_asking(small, asked), images, "m")


def test_values_of_a_model_that_finds_half(small: Build, tmp_path: Path) -> None:
    settings = small(tiles={"size": 32})
    tiling = plan_tiles(64, 64, settings.tiles)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    marked = ValidationImage("/m.png", True, str(tmp_path / "mask.png"))

    def evaluated(image: ValidationImage, top: float, bottom: float, score: float) -> Evaluated:
        terms = np.repeat(np.array([top, bottom], np.float32), 8)[None, :, None] * np.ones(16, np.float32)
        tiles = np.array([top, top, bottom, bottom], np.float32)
        no_codes = np.zeros(0, np.uint16)
        return Evaluated(image, ImageResult(tiling, tiles, terms, (64, 64), score, no_codes, Signals()))

    seen = [
        evaluated(marked, 5.0, 1.0, 5.0),
        evaluated(NORMAL, 1.0, 2.0, 2.0),
        evaluated(NORMAL, 1.0, 1.0, 6.0),
    ]
    assert (
        metric_value("image_auroc", seen, settings) == metric_value("synthetic_auroc", seen, settings) == 0.5
    )
    assert metric_value("tile_auroc", seen, settings) == 1.0
    assert metric_value("au_pro", seen, settings) > 0.95  # the edge of the map is interpolated
    with pytest.raises(DataError, match="image_auroc cannot be taken"):
        metric_value("image_auroc", seen[1:], settings)
