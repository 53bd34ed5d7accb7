"""A manifest row, a scored image and a bundle, without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest

from raysvq.decisions import fixed_decisions
from raysvq.model.bundle import Bundle, make_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.network import build_network
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.scoring.rows import Row
from raysvq.settings import Settings


@pytest.fixture
def source() -> Callable[..., Row]:
    """A manifest row; keywords change its fields."""

    def build(number: int = 0, **changes: Any) -> Row:
        row = {
            "image_id": f"{number:032x}",
            "uri": f"/plates/{number}.png",
            "size_bytes": 1000 + number,
            "etag": f"etag-{number}",
            "mtime": datetime(2025, 3, 4, 5, 6, 7, 8, tzinfo=UTC),
            "label": "normal",
            "split": "test",
        }
        return row | changes

    return build


@pytest.fixture
def bundle(small: Callable[..., Settings]) -> Bundle:
    settings = small()
    reference = Reference({"0.5": 1.0}, {"normal": 3, "anomalous": 0, "auroc": None})
    decisions = fixed_decisions(0.5, 0.1, "as found", "manual")
    return make_bundle(build_network(settings), settings, reference, decisions, {}, {})


@pytest.fixture
def result(bundle: Bundle) -> ImageResult:
    """What the bundle's model says of an image of 50 x 70 pixels."""
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    return scorer(cv2.imencode(".png", image)[1].tobytes())
