"""Finished runs in a JSON file: each is added at once, none is run again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.methods.protocol import NO_LABELS, Level
from benchmarks.methods.registry import Method
from raysvq.settings import Settings

Run = dict[str, Any]

_SECTIONS = {"split", "tiles", "model", "objective", "training", "anomaly"}  # what a result depends on
_OF_OUTLIERS = ("form", "labels", "eta", "margin")  # settings of the objective that act on them alone


class Records:
    """The runs of a file, or of none."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there."""
        self.path = path
        self.runs: list[Run] = _read(path) if path else []

    def find(self, digest: str, method: str | None = None) -> Run | None:
        """A finished run, of one method or of whichever computed the same."""
        found = (run for run in self.runs if run["digest"] == digest)
        return next((run for run in found if method in (None, run["method"])), None)

    def add(self, run: Run) -> None:
        """Keep a run. The file is whole at any time; what another command has added meanwhile stays."""
        if self.path is None:
            self.runs.append(run)
            return
        self.runs = [*_read(self.path), run]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(one) for one in self.runs)
        partial = self.path.with_suffix(f".{os.getpid()}")
        partial.write_text(f'{{"runs": [\n  {lines}\n]}}\n')
        os.replace(partial, self.path)


def _read(path: Path) -> list[Run]:
    return list(json.loads(path.read_text())["runs"]) if path.exists() else []


def run_digest(set_name: str, method: Method, level: Level, settings: Settings) -> str:
    """16 hexadecimal digits over all that decides a run's metrics, times excepted.

    The same for two names of one computation, such as a method without outliers and its form without labels.
    """
    learns = level if method.uses_labels else NO_LABELS
    values = settings.model_dump(mode="json", include=_SECTIONS)
    if learns == NO_LABELS:
        for name in _OF_OUTLIERS:
            values["objective"].pop(name, None)
    key = [set_name, method.fit.__name__, str(learns), str(level), values]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Over seeds, of the values that exist; the deviation is that of a sample, 0 for one value."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    mean = sum(found) / len(found)
    spread = sum((value - mean) ** 2 for value in found) / max(1, len(found) - 1)
    return mean, spread**0.5
