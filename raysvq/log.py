"""All that raysvq prints: a moving bar on a terminal, plain lines in a log, or JSON lines.

What is under way is a bar on a terminal, with the lines above it; elsewhere it is a line every few seconds.
As JSON each line is one object: time, level, event, verb, message, and numbers such as `done` and `total`.
Warnings and errors go to stderr, everything else to stdout.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, TypeGuard, TypeVar

REPORT_EVERY_S = 5.0  # between two lines of progress in a log
VARIABLE = "RAYSVQ_LOG"  # names the format where `--log` does not

_REDRAW_S = 0.1  # between two states of a bar on a terminal
_BAR_COLUMNS = 24
_ENDS = ("stage", "result", "error")  # events after which what the bar showed is over

Item = TypeVar("Item")


class Format(StrEnum):
    """How lines are printed; AUTO is a bar where stdout is a terminal, and PLAIN elsewhere."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"


class Line(str):
    """Text for a person, with the same as fields for a machine.

    It goes wherever a text goes, also through a `Progress` from a worker to the driver. One with the
    fields `done` and `total` moves the bar; one of the event `progress` is not printed beside it.
    """

    event: str
    level: str
    fields: dict[str, Any]

    def __new__(cls, text: str, event: str = "message", level: str = "info", **fields: Any) -> Self:
        line = super().__new__(cls, text)
        line.event, line.level, line.fields = event, level, fields
        return line


def info(text: str, event: str = "message", **fields: Any) -> None:
    """Print a line on stdout."""
    emit(Line(text, event, **fields))


def warning(text: str, event: str = "warning", **fields: Any) -> None:
    """Print a line on stderr."""
    emit(Line(text, event, "warning", **fields))


def error(text: str, **fields: Any) -> None:
    """Print on stderr why the process ends."""
    emit(Line(text, "error", "error", **fields))


def emit(line: str) -> None:
    """Print a line, in the format in use; a text without fields is a `message`."""
    with _lock:
        _output.write(line if isinstance(line, Line) else Line(line))


def is_progress(line: str) -> TypeGuard[Line]:
    """Whether it only moves the bar, or stands in a log now and then."""
    return isinstance(line, Line) and line.event == "progress"


def end_bar() -> None:
    """Leave the bar as it stands: what it showed has ended. Nothing where there is none."""
    with _lock:
        _output.end_bar()


def use(wanted: str, verb: str = "") -> None:
    """Print in a format from now on.

    Args:
        wanted: a Format.
        verb: what runs, named in JSON lines.
    """
    global _output
    end_bar()
    _give_back_logging()
    if wanted == Format.JSON:
        _output = _Json(verb)
        _take_over_logging(logging.getLogger())
    elif wanted == Format.AUTO and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        _output = _Terminal()
    else:
        _output = _Plain()


def is_json() -> bool:
    """Whether lines are JSON now."""
    return isinstance(_output, _Json)


def adopt(name: str) -> None:
    """Where lines are JSON, print what a library logs under this name as JSON lines too."""
    if is_json():
        _take_over_logging(logging.getLogger(name))


@dataclass
class ProgressMeter:
    """Reports counts, pace and time left of a long piece of work."""

    total: int | None  # None: not known before the end
    unit: str = "images"
    task: str = ""  # of a step beside the main one; a log shows such a step only where it takes long
    before: int = 0  # done when it starts: they count, but show nothing of the pace
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)
    reports: int = 0

    def update(self, done: int, rejected: int | None = None) -> None:
        """Report where the last report is a while ago, or this is the last one.

        Args:
            done: so far, with those done before and those rejected.
        """
        self.done = done
        last = done == self.total and (self.reports > 0 or not self.task)
        if last or time.monotonic() - self.reported >= _output.interval_s:
            self._report(rejected)

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, counted as they pass."""
        for done, item in enumerate(items, self.before + 1):
            yield item
            self.update(done)
        if self.total is None and self.reports:
            self._report(None)

    def _report(self, rejected: int | None) -> None:
        self.reported = time.monotonic()
        self.reports += 1
        pace = (self.done - self.before) / max(self.reported - self.started, 1e-9)
        of_total = "" if self.total is None else f"/{self.total}"
        parts = [f"{self.done}{of_total} {self.unit}", f"{pace:.1f} {self.unit}/s"]
        fields: dict[str, Any] = {"done": self.done, "total": self.total}
        fields[f"{self.unit}_per_s"] = round(pace, 3)
        if rejected is not None:
            parts.append(f"{rejected} rejected")
            fields["rejected"] = rejected
        if self.total is not None:
            left = (self.total - self.done) / pace if pace else 0.0
            parts.append(f"{duration(left)} left")
            fields["seconds_left"] = round(left, 1)
        if self.task:
            parts.insert(0, self.task)
            fields["task"] = self.task
        emit(Line("  ".join(parts), "progress", **fields))


class Throttle:
    """Lets a line of progress pass if the last one was a while ago, or if it is the last of all."""

    def __init__(self) -> None:
        self._passed = -math.inf

    def passes(self, line: str) -> bool:
        """Whether to print it now; every line of another event passes."""
        if not is_progress(line):
            return True
        now = time.monotonic()
        if now - self._passed < _output.interval_s and line.fields["done"] != line.fields["total"]:
            return False
        self._passed = now
        return True


def duration(seconds: float) -> str:
    """Such as `2 h 05 min`, `3 min 20 s`, `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )


class _Plain:
    """Lines; the methods of a format are called by one thread at a time."""

    interval_s = REPORT_EVERY_S  # least time between two reports of progress

    def write(self, line: Line) -> None:
        _print(line.level, _readable(line))

    def end_bar(self) -> None:
        """Lines need no end."""


class _Json(_Plain):
    def __init__(self, verb: str) -> None:
        self._verb = verb

    def write(self, line: Line) -> None:
        start = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": line.level}
        start |= {"event": line.event, "verb": self._verb, "message": str(line)}
        fields = {key: _number(value) for key, value in line.fields.items()}
        _print(line.level, json.dumps(start | fields, default=str))


class _Terminal(_Plain):
    interval_s = _REDRAW_S

    def __init__(self) -> None:
        from rich.console import Console  # takes 0.1 s, which no worker needs to spend

        self._console = Console(force_terminal=True, highlight=False, markup=False, emoji=False)
        self._bar: Any = None
        self._task: str | None = None

    def write(self, line: Line) -> None:
        if line.event in _ENDS:
            self.end_bar()
        if "total" in line.fields:
            self._move(line)
        if is_progress(line):
            return
        if line.level == "info":
            style = "bold" if line.event == "stage" else None
            self._console.print(_readable(line), style=style, soft_wrap=True)
        else:
            _print(line.level, _readable(line))

    def end_bar(self) -> None:
        if self._bar is None:
            return
        (task,) = self._bar.tasks
        if task.total is None:  # a full bar then, not one that seems to move on
            self._bar.update(task.id, total=task.completed)
        self._bar.stop()
        self._bar = None

    def _move(self, line: Line) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        task, done, total = (line.fields.get(name) for name in ("task", "done", "total"))
        if task != self._task:
            self.end_bar()
        self._task = task
        if self._bar is None:
            counts = TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
            )
            bar = BarColumn(_BAR_COLUMNS, table_column=Column(width=_BAR_COLUMNS))
            to_terminal = sys.stderr.isatty()
            self._bar = Progress(bar, counts, console=self._console, redirect_stderr=to_terminal)
            self._bar.add_task("")
            self._bar.start()
        text = _readable(line)
        if not is_progress(line):  # which stands above the bar as a whole
            text = text.partition("  ")[0]
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, description=text)
        if done == total:
            self.end_bar()


class _Logged(logging.Handler):
    """Prints what libraries log as lines of the event `log`."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        emit(Line(self.format(record), "log", level, logger=record.name))


def _take_over_logging(logger: logging.Logger) -> None:
    _taken_over.setdefault(logger, list(logger.handlers))
    logger.handlers[:] = [_Logged(logging.WARNING)]
    logging.captureWarnings(True)


def _give_back_logging() -> None:
    for logger, handlers in _taken_over.items():
        logger.handlers[:] = handlers
    _taken_over.clear()
    logging.captureWarnings(False)


def _readable(line: Line) -> str:
    """The text with control characters escaped; a file's name may hold some."""
    text = f"warning: {line}" if line.event == "warning" else str(line)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text
    )


def _print(level: str, text: str) -> None:
    stream = sys.stdout if level == "info" else sys.stderr
    stream.write(f"{text}\n")
    stream.flush()


def _number(value: Any) -> Any:
    """JSON knows no infinities, and none that is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


_lock = threading.RLock()
_taken_over: dict[logging.Logger, list[logging.Handler]] = {}  # with the handlers they had
_output: _Plain = _Plain()
