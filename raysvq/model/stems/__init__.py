"""Frozen feature networks, chosen by `model.stem`."""

from __future__ import annotations

from raysvq.model.stems.build import build_stem
from raysvq.model.stems.stem import CELL, Stem

__all__ = ["CELL", "Stem", "build_stem"]
