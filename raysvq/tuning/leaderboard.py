"""What a sweep found: trials in order of merit, as a table and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.settings import Settings
from raysvq.storage import write_bytes
from raysvq.tuning.space import Point, value_of

FINISHED, STOPPED, FAILED = "finished", "stopped early", "failed"


@dataclass(frozen=True)
class Trial:
    """A trial as it ended."""

    number: int
    point: Point
    status: str  # FINISHED, STOPPED or FAILED
    image_auroc: float | None  # best on validation; None: it never came to one
    steps: int
    seconds: float
    problem: str = ""


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Finished ones first, by image AUROC; the earlier of equals first."""
    order = {FINISHED: 0, STOPPED: 1, FAILED: 2}
    return sorted(trials, key=lambda trial: (order[trial.status], -(trial.image_auroc or 0), trial.number))


def table(trials: Sequence[Trial], names: Sequence[str], base: Settings) -> str:
    """The leaderboard as aligned text; `names` are the settings searched."""
    header = ["trial", "image AUROC", *(name.split(".")[1] for name in names), "steps", "seconds", ""]
    rows = [
        [
            str(trial.number),
            "-" if trial.image_auroc is None else f"{trial.image_auroc:.4f}",
            *(short(trial.point.get(name, value_of(base, name))) for name in names),
            str(trial.steps),
            f"{trial.seconds:.0f}",
            _remark(trial),
        ]
        for trial in ranked(trials)
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )


def write_leaderboard(trials: Sequence[Trial], names: Sequence[str], base: Settings, uri: str) -> None:
    """A row a trial, best first, with a column for each setting searched."""
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "trial": trial.number,
            "status": trial.status,
            "image_auroc": trial.image_auroc,
            "steps": trial.steps,
            "seconds": trial.seconds,
            "problem": trial.problem,
        }
        | {name: trial.point.get(name, value_of(base, name)) for name in names}
        for rank, trial in enumerate(ranked(trials), 1)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    write_bytes(uri, buffer.getvalue())


def short(value: Any) -> str:
    """A setting's value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _remark(trial: Trial) -> str:
    told = trial.problem if trial.status == FAILED else trial.status if trial.status == STOPPED else ""
    return ", ".join(part for part in ("" if trial.point else "defaults", told) if part)
