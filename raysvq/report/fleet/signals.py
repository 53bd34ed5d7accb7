"""The numbers of a night that are shown as trends, in words and units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trend:
    """A chart over the nights."""

    title: str
    label: str  # of the upright axis, with its unit
    about: str  # what it means, in a sentence
    series: dict[str, str]  # names of `CameraNight.signals`, each with its legend
    findings: tuple[str, ...]  # signals of findings that are marked
    scale: float = 1.0  # times the number
    of_the_model: bool = False  # numbers of two models are not on one scale
    with_threshold: bool = False  # drawn with the threshold of the night
    only_changes: bool = False  # shown where they vary


TRENDS = (
    Trend(
        "Image score",
        "score",
        "How unusual images are to the model. Scores of two models are not on one scale.",
        {"score": "median"},
        ("score",),
        of_the_model=True,
        with_threshold=True,
    ),
    Trend(
        "Codebook usage",
        "share of the use, %",
        "How much of its use of codes goes to codes that normal images hardly use.",
        {"codes": "rare codes"},
        ("codes",),
        scale=100.0,
        of_the_model=True,
    ),
    Trend(
        "Exposure",
        "stops",
        "Brightness as log2 of the mean linear luminance: 1 less is half the light.",
        {"exposure": "median"},
        ("exposure",),
    ),
    Trend(
        "Contrast",
        "log2(deviation / mean)",
        "Spread of the grey values: 1 less is half of it, as in haze or on a dirty lens.",
        {"contrast": "median"},
        ("contrast",),
    ),
    Trend(
        "Sharpness",
        "log2(fine / all detail)",
        "Lower is softer: focus, motion, dirt.",
        {"sharpness": "median"},
        ("sharpness",),
    ),
    Trend(
        "Warmth",
        "log2(red / blue)",
        "The colour of the light: higher is redder, lower is bluer.",
        {"warmth": "median"},
        ("warmth",),
    ),
    Trend(
        "Image size",
        "pixels",
        "The most frequent width and height.",
        {"width": "width", "height": "height"},
        ("size",),
        only_changes=True,
    ),
)
