"""When scoring takes bfloat16."""

from __future__ import annotations

import pytest
import torch

from raysvq.model.device import (
    TOLERANCE,
    choose_precision,
    has_fast_bfloat16,
    relative_deviation,
)


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
