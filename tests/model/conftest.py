"""Small models, and images as files, for the tests of the method."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from raysvq.decisions import CalibrationScores, fit_decisions
from raysvq.model.bundle import Bundle, make_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.network import Network, build_network
from raysvq.settings import Settings


@pytest.fixture
def make_model() -> Callable[[Settings], Network]:
    """A model with random weights that standardises its input."""

    def build(settings: Settings) -> Network:
        model = build_network(settings)
        model.mean.uniform_(0.3, 0.6)
        model.std.uniform_(0.1, 0.3)
        return model.eval()

    return build


@pytest.fixture
def bundle(small: Callable[..., Settings], make_model: Callable[[Settings], Network]) -> Bundle:
    settings = small()
    reference = Reference({"0.5": 1.0}, {"normal": 3, "anomalous": 0, "auroc": None})
    decisions = fit_decisions(
        CalibrationScores(
            np.array([1.0, 2.0, 2.5], np.float32), np.zeros(3, bool), [None] * 3, ["a", "b", "c"]
        ),
        settings.decision,
        0.75,
        {"manifest": "made up"},
    )
    curves = {"history": [{"step": 1, "loss": 0.5}], "codebook_usage": [1.0, 0.0]}
    return make_bundle(make_model(settings), settings, reference, decisions, {"steps": 7}, curves)


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Reproducible noise, (H, W, 3) uint8."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

    return draw


@pytest.fixture
def png() -> Callable[[np.ndarray], bytes]:
    """A PNG file of an RGB image, as deep as the array."""

    def encode(image: np.ndarray) -> bytes:
        written, content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        assert written
        return content.tobytes()

    return encode
