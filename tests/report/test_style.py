"""Colours of the pages: WCAG 2.2 AA, in light, dark and print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import raysvq.report

STYLE = Path(raysvq.report.__file__).with_name("style.css").read_text()
SCHEMES = [
    dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, 1.4.3)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES, ids=("light", "dark", "print"))
def test_text_can_be_read_and_controls_can_be_seen(scheme: dict[str, str]) -> None:
    for ground in ("page", "card", "faint"):
        for text in ("ink", "soft", "good", "bad", "warn"):
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    for shape in ("edge", "blue", "orange", "green", "violet", "gold"):
        assert contrast(scheme[shape], scheme["card"]) >= 3, shape
