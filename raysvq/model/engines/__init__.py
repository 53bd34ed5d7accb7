"""Libraries that compute a network's distances, chosen by `scoring.engine`."""

from __future__ import annotations

from raysvq.model.engines.backend import (
    EXACT,
    Backend,
    Engine,
    EngineName,
    Machine,
    Nearest,
    choose_backend,
    engines_with_bfloat16,
    look_around,
    may_take_openvino,
)

__all__ = [
    "EXACT",
    "Backend",
    "Engine",
    "EngineName",
    "Machine",
    "Nearest",
    "choose_backend",
    "engines_with_bfloat16",
    "look_around",
    "may_take_openvino",
]
