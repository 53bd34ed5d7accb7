"""Frozen feature networks, chosen by `model.stem`."""

from __future__ import annotations

from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.model.stems.stem import CELL, Stem
from raysvq.settings import ModelSettings

__all__ = ["CELL", "Stem", "build_stem"]


def build_stem(settings: ModelSettings) -> Stem:
    """The network that `model.stem` names, with random weights; `load` gives the pretrained ones."""
    return EfficientNetLite()
