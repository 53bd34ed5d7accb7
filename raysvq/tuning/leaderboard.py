"""What a sweep found: trials in order of merit, as a table and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.settings import Settings, TuningSettings
from raysvq.storage import write_bytes
from raysvq.tuning.space import Point, value_of

FINISHED, OVER, STOPPED, FAILED = "finished", "over a limit", "stopped early", "failed"
_ORDER = (FINISHED, OVER, STOPPED, FAILED)
_LIMITS = {"most_train_s": "train_s", "most_image_ms": "image_ms", "most_model_mib": "model_mib"}


@dataclass(frozen=True)
class Trial:
    """A trial as it ended."""

    number: int
    point: Point
    status: str  # one of _ORDER
    figure: float | None  # mean over its trainings; None: it never came to one
    figures: tuple[float, ...] = ()  # of each training
    looks: tuple[tuple[float, float], ...] = ()  # how much of its trainings was done, and the mean then
    seconds: float = 0.0
    train_s: float | None = None
    image_ms: float | None = None
    model_mib: float | None = None
    problem: str = ""
    validated: tuple[int, int] = (0, 0)  # normal and anomalous images that it was judged by; 0 if not known


@dataclass(frozen=True)
class Leaderboard:
    """All trials, best first."""

    metric: str
    names: tuple[str, ...]  # of the settings searched
    base: Settings
    trials: tuple[Trial, ...]

    def value(self, trial: Trial, name: str) -> Any:
        """What a setting was in a trial."""
        return trial.point.get(name, value_of(self.base, name))


def trial_of(
    number: int, point: Point, limits: TuningSettings, told: Mapping[str, Any] | None, lost: str
) -> Trial:
    """A trial as it ended.

    Args:
        told: of its record; None: it could not be brought to an end.
        lost: why, then.
    """
    if told is None:
        return Trial(number, point, FAILED, None, problem=lost)
    over = over_limits(told, limits)
    status = FAILED if told["problem"] else OVER if over else FINISHED if "train_s" in told else STOPPED
    return Trial(
        number,
        point,
        status,
        told["figure"],
        tuple(told["figures"]),
        tuple((share, figure) for _, share, figure in told["looks"]),
        told["seconds"],
        told.get("train_s"),
        told.get("image_ms"),
        told.get("model_mib"),
        told["problem"] or over,
        tuple(told.get("validated", (0, 0))),
    )


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Finished ones first, by their figure; the earlier of equals first."""
    return sorted(trials, key=lambda one: (_ORDER.index(one.status), -round(one.figure or 0, 6), one.number))


def over_limits(measured: Mapping[str, Any], tuning: TuningSettings) -> str:
    """Which limits of `tuning` a finished trial breaks, in words; empty: none."""
    broken = []
    for setting, name in _LIMITS.items():
        most, found = getattr(tuning, setting), measured.get(name)
        if most is not None and found is not None and found > most:
            broken.append(f"{name} {found:.4g} is over tuning.{setting}={most:g}")
    return ", ".join(broken)


def front(trials: Sequence[Trial]) -> set[int]:
    """Numbers of finished trials that no other beats in both figure and time an image."""
    timed = [one for one in trials if one.status in (FINISHED, OVER) and one.image_ms is not None]
    return {one.number for one in timed if not any(_beats(other, one) for other in timed)}


def table(board: Leaderboard) -> str:
    """The leaderboard as aligned text."""
    on_front = front(board.trials)
    names = [name.split(".")[1] for name in board.names]
    header = ["trial", board.metric, *names, "seconds", "ms/image", "MiB", ""]
    rows = [
        [
            str(trial.number),
            number(trial.figure, ".4f"),
            *(short(board.value(trial, name)) for name in board.names),
            number(trial.seconds, ".0f"),
            number(trial.image_ms, ".1f") + ("*" if trial.number in on_front else " "),
            number(trial.model_mib, ".1f"),
            remark(trial),
        ]
        for trial in board.trials
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header) - 1)]
    lines = [
        "  ".join([*(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([*lines, "* no other trial is both better and faster"])


def write_leaderboard(board: Leaderboard, uri: str) -> None:
    """A row a trial, best first, with a column for each setting searched."""
    on_front = front(board.trials)
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "trial": trial.number,
            "status": trial.status,
            board.metric: trial.figure,
            "figures": list(trial.figures),
            "seconds": trial.seconds,
            "train_s": trial.train_s,
            "image_ms": trial.image_ms,
            "model_mib": trial.model_mib,
            "on_front": trial.number in on_front,
            "problem": trial.problem,
        }
        | {name: board.value(trial, name) for name in board.names}
        for rank, trial in enumerate(board.trials, 1)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    write_bytes(uri, buffer.getvalue())


def short(value: Any) -> str:
    """A setting's value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def number(value: float | None, form: str) -> str:
    """A figure, or a dash for none."""
    return "-" if value is None else format(value, form)


def remark(trial: Trial) -> str:
    """What else is to be said of a trial."""
    told = trial.problem or ("" if trial.status == FINISHED else trial.status)
    return ", ".join(part for part in ("" if trial.point else "defaults", told) if part)


def _beats(one: Trial, other: Trial) -> bool:
    """Better in one of figure and time, and not worse in the other."""
    here, there = (one.figure or 0, -(one.image_ms or 0)), (other.figure or 0, -(other.image_ms or 0))
    return here != there and all(a >= b for a, b in zip(here, there, strict=True))
