"""raysvq: fleet-scale visual inspection as Ray batch jobs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysvq.results import open_results, read_scores

__version__ = "0.1.0"
__all__ = ["open_results", "read_scores"]


def __getattr__(name: str) -> Any:
    """Import what reads results on first use: a process that only decodes images needs no Arrow."""
    if name in __all__:
        return getattr(import_module("raysvq.results"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
