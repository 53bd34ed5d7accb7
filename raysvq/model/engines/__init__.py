"""Libraries that compute a network's distances, chosen by `scoring.engine`."""

from __future__ import annotations

from raysvq.model.engines.backend import Backend, Engine, EngineName, Nearest

__all__ = ["Backend", "Engine", "EngineName", "Nearest"]
