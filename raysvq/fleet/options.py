"""What narrows an inspection, and what its exit code says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Literal

from raysvq.errors import SettingsError
from raysvq.ledger.records import CameraNight

FailOn = Literal["warning", "error", "never"]

NARROWING = frozenset({"only", "repair"})  # arguments by which a run looks at some cameras alone

ALL_WELL, SOME_FAILED, NOTHING_RAN = 0, 1, 2  # exit codes


@dataclass(frozen=True)
class InspectOptions:
    """What a run is asked for beside `fleet.yaml`."""

    only: tuple[str, ...] = ()  # patterns of camera names; none: all
    since: date | None = None  # first day to list; None: as the ledger says
    until: date | None = None  # last day to list, and the night of the run; None: today
    rescore: str | None = None  # a model to score the window with, into results of its own
    repair: str | None = None  # number or id of a run whose failures are to be made good
    fail_on: FailOn = "error"  # level of findings from which on the exit code is 1
    wait_s: float = 0.0  # how long to queue behind a run that is at work

    def __post_init__(self) -> None:
        """Raises SettingsError where options contradict each other."""
        if self.since and self.until and self.since > self.until:
            raise SettingsError(
                f"--since {self.since} is after --until {self.until}; expected an earlier day"
            )
        if self.repair and (self.rescore or self.since or self.until):
            raise SettingsError("--repair has the days of its run: leave out --since, --until and --rescore")
        if self.rescore and not self.since:
            raise SettingsError("--rescore needs --since DATE: the first day to score again")

    def arguments(self) -> dict[str, Any]:
        """As the run record keeps them: those that were given."""
        given = {"only": list(self.only), "repair": self.repair}
        given |= {name: day.isoformat() for name in ("since", "until") if (day := getattr(self, name))}
        return {name: value for name, value in given.items() if value}


def matches(camera: str, only: Sequence[str]) -> bool:
    """Whether a camera's name fits one of the patterns; all do where there is none."""
    return not only or any(fnmatchcase(camera, pattern) for pattern in only)


def exit_code(nights: Iterable[CameraNight], unlisted: bool, fail_on: FailOn) -> int:
    """What a run that came to its end returns.

    Args:
        unlisted: whether a prefix could not be listed, so that cameras may be missing.
    """
    nights = list(nights)
    failed = sum(night.state == "failed" for night in nights)
    if failed == len(nights) and (failed or unlisted):
        return NOTHING_RAN
    levels = {finding.level for night in nights for finding in night.findings}
    alarming = {"warning": {"warning", "error"}, "error": {"error"}, "never": set[str]()}[fail_on]
    return SOME_FAILED if failed or unlisted or levels & alarming else ALL_WELL
