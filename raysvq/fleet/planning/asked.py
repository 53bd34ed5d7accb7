"""What a run is to look at: its night, its cameras, and the days that are listed of each."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from raysvq.errors import DataError, SettingsError
from raysvq.fleet.options import NARROWING, InspectOptions, matches
from raysvq.fleet.planning.plan import known_versions
from raysvq.fleet.planning.windows import (
    HISTORY,
    Window,
    by_camera,
    newest_nights,
    require_clock,
    window_of,
)
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import read_runs

NOT_ALL_LISTED = NARROWING | {"since"}  # arguments of runs that left out cameras or days


@dataclass(frozen=True)
class Asked:
    """The scope of a run."""

    night: date
    runs: Sequence[FleetRun]  # earlier ones, oldest first
    history: Sequence[Sequence[CameraNight]]  # their nights
    windows: Mapping[str, Window]  # of the cameras that are known
    window: Window  # of any other
    first: date  # day from which on cameras that are not known may have images that were never listed
    only: tuple[str, ...] = ()  # patterns of camera names; none: all

    def window_of(self, camera: str) -> Window:
        """The days of a camera; of "" all days of any."""
        if camera:
            return self.windows.get(camera, self.window)
        since = (window.since for window in self.windows.values())
        return Window(min([self.first, *since]), self.window.until)

    def since(self, camera: str) -> date:
        """The first day to list of a camera; of "" the first day of any."""
        return self.window_of(camera).since

    @cached_property
    def before(self) -> dict[str, CameraNight]:
        """The last night of each camera."""
        return newest_nights(self.history)

    @cached_property
    def known(self) -> dict[str, int]:
        """Camera -> version of its scores up to which the ledger has all entries."""
        return known_versions(self.history)


def ask(fleet: Fleet, options: InspectOptions, now: datetime) -> Asked:
    """Choose night, cameras and days.

    Raises:
        DataError: the ledger is damaged or of a later version, the clock is behind its last night, or there
            is no such run, or nothing of it, to repair.
        SettingsError: `--until` is in the future.
        StorageError: the store does not answer.
    """
    runs, history = read_runs(fleet.out, HISTORY), read_nights(fleet.out, HISTORY)
    if options.repair:
        return _to_repair(fleet, options, runs, history)
    today = fleet.today(now)
    night = options.until or today
    if options.until is None:
        require_clock(history, night)
    elif night - today > timedelta(days=1):  # which may be the clock's, or the time zone's
        raise SettingsError(f"--until {night} is in the future: it is {today}; expected a day up to then")
    # What lies before the days that a run was asked for is not covered by it.
    chosen = {run.run_id for run in runs if "since" in run.arguments}
    nights = by_camera([each for each in of_run if each.run_id not in chosen] for of_run in history)
    limits = night, fleet.lateness_days, fleet.catch_up_days
    windows = {name: window_of(of_camera, *limits) for name, of_camera in nights.items()}
    other = window_of((), *limits)
    first = _first_of_unknown(fleet, runs, newest_nights(history), other)
    if options.since:
        windows = {name: replace(window, since=options.since) for name, window in windows.items()}
        other, first = replace(other, since=options.since), options.since
    return Asked(night, runs, history, windows, other, first, options.only)


def _first_of_unknown(
    fleet: Fleet, runs: Sequence[FleetRun], before: Mapping[str, CameraNight], window: Window
) -> date:
    """The first day that may have images, never listed, of cameras that no night knows.

    That is the window of a new camera, but where dates lie above cameras and whole runs listed them all.
    """
    known = [fleet.entry_of(name, night.fields) for name, night in before.items()]
    unseen = {entry.line for entry in fleet.entries if entry.template.dates_first}
    unseen -= {entry.line for entry in known if entry}
    whole = [run for run in runs if not run.arguments.keys() & NOT_ALL_LISTED and not run.problems]
    if unseen or not whole:
        return window.since
    last = max(date.fromisoformat(run.night) for run in whole)
    return max(min(window.until, last) - timedelta(days=fleet.lateness_days), window.since)


def _to_repair(
    fleet: Fleet,
    options: InspectOptions,
    runs: Sequence[FleetRun],
    history: Sequence[Sequence[CameraNight]],
) -> Asked:
    """The cameras that failed in a run, and its days.

    Raises:
        DataError: it is not among the last HISTORY ones, or no camera failed in it.
    """
    asked = options.repair
    run = next((run for run in runs if asked in (str(run.number), run.run_id)), None)
    if run is None:
        there = (
            f"the last ones are {runs[0].number} to {runs[-1].number}" if runs else "none has finished yet"
        )
        raise DataError(f"--repair {asked}: {fleet.out} has no such run; {there}")
    (nights,) = [each for each in history if each and each[0].run_id == run.run_id] or [[]]
    wanted = [each for each in nights if matches(each.camera, options.only)]
    failed = {each.camera: each for each in wanted if each.state == "failed" or each.skipped}
    if not failed:
        problems = f"; its problems: {'; '.join(run.problems)}" if run.problems else ""
        raise DataError(f"--repair {asked}: that run left nothing to repair at these cameras{problems}")
    night = date.fromisoformat(run.night)
    other = Window(night - timedelta(days=fleet.catch_up_days), night)
    windows = {
        name: Window(date.fromisoformat(each.listed_since), date.fromisoformat(each.listed_until))
        for name, each in failed.items()
        if each.listed_since and each.listed_until
    }
    only = tuple(map(glob.escape, failed))
    return Asked(night, runs, history, windows, other, other.since, only)
