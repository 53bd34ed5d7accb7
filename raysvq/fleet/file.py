"""`fleet.yaml`: read with line numbers and validated as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raysvq.fleet.settings import Fleet


def load_fleet(path: str | Path, overrides: Sequence[str] = ()) -> Fleet:
    """Read a fleet's file.

    Args:
        overrides: `lateness_days=5`, `watch.enabled=false`, `scoring.worst=3`: values in place of the file's.

    Raises:
        SettingsError: of every problem in the file a line, with file and line number, what was found and what
            is allowed.
    """
    raise NotImplementedError
