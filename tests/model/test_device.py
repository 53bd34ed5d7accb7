"""Scoring in bfloat16: when it is chosen, and how close it comes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from raysvq.model.device import (
    TOLERANCE,
    choose_precision,
    has_fast_bfloat16,
    relative_deviation,
)
from raysvq.model.network import Network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], Network]


@pytest.mark.parametrize(
    ("setting", "deviation", "fast", "chosen"),
    [
        ("auto", TOLERANCE, True, "bfloat16"),
        ("auto", 1.01 * TOLERANCE, True, "float32"),
        ("auto", TOLERANCE, False, "float32"),
        ("auto", None, True, "float32"),
        ("float32", 0.0, True, "float32"),
        ("bfloat16", None, False, "bfloat16"),
    ],
)
def test_auto_takes_bfloat16_where_it_is_fast_and_measured_to_be_close(
    setting: str, deviation: float | None, fast: bool, chosen: str
) -> None:
    assert choose_precision(setting, deviation, fast) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instructions", "fast"), [({"avx512_bf16": True}, True), ({"avx512_f": True}, False)]
)
def test_a_cpu_is_fast_with_instructions_for_bfloat16_alone(
    monkeypatch: pytest.MonkeyPatch, instructions: dict[str, bool], fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert has_fast_bfloat16("cpu") is fast


def test_deviation_is_relative_to_the_exact_score() -> None:
    assert relative_deviation(1.02, 1.0) == pytest.approx(0.02)
    assert relative_deviation(1.98, 2.0) == pytest.approx(0.01)
    assert relative_deviation(0.0, 0.0) == 0
    assert relative_deviation(0.1, 0.0) == float("inf")


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_distances_follow_those_in_float32(small: Build, make_model: Make, far: float) -> None:
    """Also where encodings and codes lie far from the origin."""
    model = make_model(small())
    last = model.encoder[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        last.bias += far
        model.quantizer.codebook += far
        exact, close = model.distance_map(pixels), model.bfloat16_distance_map()(pixels)
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, rtol=0.03, atol=0.01)


def test_a_position_on_a_code_has_no_distance(small: Build, make_model: Make) -> None:
    model = make_model(small())
    with torch.inference_mode():
        pixels = torch.rand(1, 3, 32, 32)
        encoded = model.encode(pixels)[0].flatten(1).T[:16]
        model.quantizer.codebook[:] = encoded
        distances = model.bfloat16_distance_map()(pixels).flatten()[:16]
    assert torch.isfinite(distances).all()
    assert distances.max() < 0.02 * encoded.norm(dim=1).max()


def test_images_score_alike_in_both_precisions(
    small: Build,
    make_model: Make,
    picture: Callable[..., np.ndarray],
    png: Callable[[np.ndarray], bytes],
) -> None:
    settings, content = small(), png(picture(90, 70))
    exact = ImageScorer(make_model(settings), settings, settings.scoring)
    close = exact.in_bfloat16()(content)
    assert relative_deviation(close.image_score, exact(content).image_score) < TOLERANCE
    np.testing.assert_allclose(close.tile_scores, exact(content).tile_scores, rtol=TOLERANCE)
