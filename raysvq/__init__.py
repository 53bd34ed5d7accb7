"""raysvq: fleet-scale visual inspection as Ray batch jobs."""

from raysvq.results import open_results, read_scores

__version__ = "0.1.0"
__all__ = ["open_results", "read_scores"]
