"""The result of a sweep: its trials, best first, as a table and as Parquet. Knows neither Ray nor PyTorch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.settings import Settings, TuningSettings
from raysvq.storage import write_bytes

# Dotted names of settings -> values, as in a `--set`; settings that are not named have the base's value.
Point = dict[str, Any]

FINISHED, OVER_LIMIT, STOPPED, FAILED = "finished", "over a limit", "stopped early", "failed"
_ORDER = (FINISHED, OVER_LIMIT, STOPPED, FAILED)
_LIMITS = {"max_train_s": "train_s", "max_image_ms": "image_ms", "max_model_mib": "model_mib"}


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    number: int
    point: Point
    status: str  # one of _ORDER
    value: float | None  # of the metric, mean over the trainings; None: the trial was lost
    values: tuple[float, ...] = ()  # of each training
    curve: tuple[tuple[float, float], ...] = ()  # learning curve: share of the trainings done, value
    seconds: float = 0.0
    train_s: float | None = None
    image_ms: float | None = None
    model_mib: float | None = None
    error: str = ""
    images: tuple[int, int] = (0, 0)  # normal and anomalous ones that the metric is taken over; 0: not known


@dataclass(frozen=True)
class Leaderboard:
    """All trials, best first."""

    metric: str
    names: tuple[str, ...]  # of the settings searched
    base: Settings
    trials: tuple[Trial, ...]

    def setting(self, trial: Trial, name: str) -> Any:
        """The value of a setting in a trial."""
        return trial.point.get(name, value_of(self.base, name))


def value_of(settings: Settings, name: str) -> Any:
    """The value of the setting with this dotted name."""
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def trial_of(
    number: int, point: Point, limits: TuningSettings, result: Mapping[str, Any] | None, lost: str
) -> Trial:
    """A trial that has ended.

    Args:
        result: its last one; None: it has none, as its workers were lost too often.
        lost: the error, then.
    """
    if result is None:
        return Trial(number, point, FAILED, None, error=lost)
    over = over_limits(result, limits)
    finished = OVER_LIMIT if over else FINISHED if "train_s" in result else STOPPED
    return Trial(
        number,
        point,
        FAILED if result["error"] else finished,
        result["value"],
        tuple(result["values"]),
        tuple((share, value) for _, share, value in result["curve"]),
        result["seconds"],
        result.get("train_s"),
        result.get("image_ms"),
        result.get("model_mib"),
        result["error"] or over,
        tuple(result.get("images", (0, 0))),
    )


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """By status, finished ones first, then by value; the earlier of equals first."""
    return sorted(trials, key=lambda one: (_ORDER.index(one.status), -round(one.value or 0, 6), one.number))


def over_limits(result: Mapping[str, Any], tuning: TuningSettings) -> str:
    """Which limits of `tuning` a result exceeds, in words; empty: none."""
    exceeded = []
    for setting, name in _LIMITS.items():
        limit, found = getattr(tuning, setting), result.get(name)
        if limit is not None and found is not None and found > limit:
            exceeded.append(f"{name} {found:.4g} is over tuning.{setting}={limit:g}")
    return ", ".join(exceeded)


def pareto_front(trials: Sequence[Trial]) -> set[int]:
    """Numbers of the trials that no other one dominates in value and time per image."""
    timed = [one for one in trials if one.status in (FINISHED, OVER_LIMIT) and one.image_ms is not None]
    return {one.number for one in timed if not any(_dominates(other, one) for other in timed)}


def table(board: Leaderboard) -> str:
    """The leaderboard as aligned text."""
    front = pareto_front(board.trials)
    names = [name.split(".")[1] for name in board.names]
    header = ["trial", board.metric, *names, "seconds", "ms/image", "MiB", ""]
    rows = [
        [
            str(trial.number),
            number(trial.value, ".4f"),
            *(short(board.setting(trial, name)) for name in board.names),
            number(trial.seconds, ".0f"),
            number(trial.image_ms, ".1f") + ("*" if trial.number in front else " "),
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
    """Write one Parquet row per trial, best first, with a column for each setting searched."""
    front = pareto_front(board.trials)
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "trial": trial.number,
            "status": trial.status,
            board.metric: trial.value,
            "values": list(trial.values),
            "seconds": trial.seconds,
            "train_s": trial.train_s,
            "image_ms": trial.image_ms,
            "model_mib": trial.model_mib,
            "pareto_front": trial.number in front,
            "error": trial.error,
        }
        | {name: board.setting(trial, name) for name in board.names}
        for rank, trial in enumerate(board.trials, 1)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    write_bytes(uri, buffer.getvalue())


def short(value: Any) -> str:
    """A setting's value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def number(value: float | None, form: str) -> str:
    """A formatted number, or a dash for None."""
    return "-" if value is None else format(value, form)


def remark(trial: Trial) -> str:
    """Whether a trial has the base's settings, and its error or a status other than finished."""
    outcome = trial.error or ("" if trial.status == FINISHED else trial.status)
    return ", ".join(part for part in ("" if trial.point else "defaults", outcome) if part)


def _dominates(one: Trial, other: Trial) -> bool:
    """Better in one of value and time, and not worse in the other."""
    here, there = (one.value or 0, -(one.image_ms or 0)), (other.value or 0, -(other.image_ms or 0))
    return here != there and all(a >= b for a, b in zip(here, there, strict=True))
