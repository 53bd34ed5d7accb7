"""What a run is to look at: its night, its cameras, and the days that are listed of each."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

from raysvq.errors import DataError
from raysvq.fleet.options import InspectOptions, matches
from raysvq.fleet.planning import known_versions
from raysvq.fleet.settings import Fleet
from raysvq.fleet.windows import Window, by_camera, require_clock, window_of
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import read_runs

HISTORY = 30  # runs that windows, watching and the page look back on


@dataclass(frozen=True)
class Asked:
    """The scope of a run."""

    night: date
    runs: Sequence[FleetRun]  # earlier ones, oldest first
    history: Sequence[Sequence[CameraNight]]  # their nights
    before: Mapping[str, CameraNight]  # the newest night of each camera
    windows: Mapping[str, Window]  # of the cameras that are known
    window: Window  # of any other
    only: tuple[str, ...] = ()  # patterns of camera names; none: all

    def window_of(self, camera: str) -> Window:
        """The days of a camera; of "" all days of any."""
        if camera or not self.windows:
            return self.windows.get(camera, self.window)
        return Window(min(window.since for window in self.windows.values()), self.window.until)

    def since(self, camera: str) -> date:
        """The first day to list of a camera; of "" the first day of any."""
        return self.window_of(camera).since

    @cached_property
    def known(self) -> dict[str, int]:
        """Camera -> version of its scores up to which the ledger has all entries."""
        return known_versions(self.history)


def ask(fleet: Fleet, options: InspectOptions, now: datetime) -> Asked:
    """Choose night, cameras and days.

    Raises:
        DataError: the ledger is damaged or of a later version, the clock is behind its last night, or there
            is no such run, or nothing of it, to repair.
        StorageError: the store does not answer.
    """
    runs, history = read_runs(fleet.out, HISTORY), read_nights(fleet.out, HISTORY)
    if options.repair:
        return _to_repair(fleet, options, runs, history)
    night = options.until or fleet.today(now)
    if options.until is None:
        require_clock(history, night)
    nights = by_camera(history)
    limits = night, fleet.lateness_days, fleet.catch_up_days
    windows = {name: window_of(of_camera, *limits) for name, of_camera in nights.items()}
    other = window_of((), *limits)
    if options.since:
        windows = {name: replace(window, since=options.since) for name, window in windows.items()}
        other = replace(other, since=options.since)
    before = {name: of_camera[-1] for name, of_camera in nights.items()}
    return Asked(night, runs, history, before, windows, other, options.only)


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
        raise DataError(f"--repair {asked}: that run left nothing to repair at these cameras")
    night = date.fromisoformat(run.night)
    other = Window(night - timedelta(days=fleet.catch_up_days), night)
    windows = {
        name: Window(date.fromisoformat(each.listed_since), date.fromisoformat(each.listed_until))
        for name, each in failed.items()
        if each.listed_since and each.listed_until
    }
    before = {name: of_camera[-1] for name, of_camera in by_camera(history).items()}
    return Asked(night, runs, history, before, windows, other, tuple(map(glob.escape, failed)))
