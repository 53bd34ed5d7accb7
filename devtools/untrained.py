"""An untrained model, for tests and benchmarks: the arithmetic is the same."""

from __future__ import annotations

import torch

from raysvq.decisions import fixed_decisions
from raysvq.model.bundle import Bundle, make_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.network import build_network
from raysvq.settings import Settings


def untrained_bundle(settings: Settings, threshold: float) -> Bundle:
    """Random weights, the same each time; `threshold` is that of images and of map values."""
    torch.manual_seed(0)
    validation = {"normal": 0, "anomalous": 0, "auroc": None}
    reference = Reference({}, validation)
    decisions = fixed_decisions(threshold, threshold, "untrained", "manual")
    return make_bundle(build_network(settings), settings, reference, decisions, {}, {})
