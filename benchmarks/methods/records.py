"""Finished runs in a JSON file: each is added at once, none is run again."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import raysvq
from benchmarks.methods.registry import Method
from raysvq.settings import Settings

Run = dict[str, Any]

_SECTIONS = {"split", "tiles", "model", "objective", "training", "anomaly"}  # what a result depends on
_CODE = ("imaging", "model", "training", "evaluation", "settings")  # packages of raysvq
_OF_OUTLIERS = ("form", "labels", "eta", "margin")  # settings of the objective that act on them alone


class Records:
    """The runs of a file, or of none."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there."""
        self.path = path
        self.runs: list[Run] = _read(path) if path else []

    def find(self, digest: str) -> Run | None:
        """A finished run, of whichever method computed it."""
        return next((run for run in self.runs if run["digest"] == digest), None)

    def add(self, run: Run) -> None:
        """Keep a run, in place of an earlier one of its digest.

        The file is whole at any time; what another command has added meanwhile stays.
        """
        before = self.runs if self.path is None else _read(self.path)
        self.runs = [*(one for one in before if one["digest"] != run["digest"]), run]
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(one) for one in self.runs)
        partial = self.path.with_suffix(f".{os.getpid()}")
        partial.write_text(f'{{"runs": [\n  {lines}\n]}}\n')
        os.replace(partial, self.path)


def _read(path: Path) -> list[Run]:
    return list(json.loads(path.read_text())["runs"]) if path.exists() else []


def run_digest(drawn: str, method: Method, labelled: bool, settings: Settings) -> str:
    """16 hexadecimal digits over all that decides a run's metrics, code and times excepted.

    The same for two names of one computation, such as a method without outliers and its form without labels.

    Args:
        drawn: digest of the draw.
        labelled: whether it has labelled outliers.
    """
    values = settings.model_dump(mode="json", include=_SECTIONS)
    if not labelled:
        for name in _OF_OUTLIERS:
            values["objective"].pop(name, None)
    key = [drawn, method.fit.__name__, values]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def code_digest() -> str:
    """8 hexadecimal digits over the code that learns, scores and measures."""
    digest = hashlib.sha256()
    folders = [Path(__file__).parent, *(Path(raysvq.__file__).parent / name for name in _CODE)]
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def mean_and_deviation(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Over seeds, of the values that exist; the deviation is that of a sample, 0 for one value."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    mean = sum(found) / len(found)
    spread = sum((value - mean) ** 2 for value in found) / max(1, len(found) - 1)
    return mean, spread**0.5
