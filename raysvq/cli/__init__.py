"""The command line: one verb per stage. `jobs/` calls the same verbs on a cluster."""

from raysvq.cli.app import app
from raysvq.cli.main import main

__all__ = ["app", "main"]
