"""raysvq: fleet-scale visual inspection as Ray batch jobs."""

__version__ = "0.1.0"
