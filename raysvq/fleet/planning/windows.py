"""Which days of a camera are listed: those that can have changed since it was last seen whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from raysvq.errors import DataError
from raysvq.ledger.records import CameraNight

HISTORY = 30  # runs that windows, watching, status and the page look back on
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Window:
    """Days that are listed, both included."""

    since: date
    until: date

    def dates(self) -> list[date]:
        """Each of them."""
        return [self.since + n * _DAY for n in range((self.until - self.since).days + 1)]


def window_of(nights: Sequence[CameraNight], today: date, lateness_days: int, catch_up_days: int) -> Window:
    """The days to list of one camera.

    They begin `lateness_days` before the last day up to which all was listed and scored, so that a night that
    was missed, or in which the camera failed, is made up for. They never begin more than `catch_up_days` ago.

    Args:
        nights: of this camera in earlier runs, oldest first; without any it is new.
        today: in the fleet's time zone.
        lateness_days: images may arrive so many days after the day they are filed under.
    """
    earliest = today - catch_up_days * _DAY
    covered = _covered(nights, lateness_days, catch_up_days)
    if covered is None:
        return Window(earliest, today)
    return Window(max(min(today, covered) - lateness_days * _DAY, earliest), today)


def by_camera(history: Iterable[Iterable[CameraNight]]) -> Mapping[str, list[CameraNight]]:
    """The nights of each camera, in the order of the runs."""
    found: defaultdict[str, list[CameraNight]] = defaultdict(list)
    for nights in history:
        for night in nights:
            found[night.camera].append(night)
    return found


def newest_nights(history: Iterable[Iterable[CameraNight]]) -> dict[str, CameraNight]:
    """The last night of each camera."""
    return {night.camera: night for nights in history for night in nights}


def require_clock(history: Iterable[Iterable[CameraNight]], today: date) -> None:
    """Check that today is not before the last night; a day may be the clock's, or the time zone's.

    Raises:
        DataError: it is.
    """
    last = max((night for nights in history for night in nights), key=lambda each: each.night, default=None)
    if last and date.fromisoformat(last.night) - today > _DAY:
        raise DataError(
            f"this machine's clock says {today}, but run {last.run_id} of this fleet was on {last.night}: set"
            " the clock right. If it was that run whose clock was wrong, remove its record from ledger/runs"
        )


def _covered(nights: Sequence[CameraNight], lateness_days: int, catch_up_days: int) -> date | None:
    """The last day up to which all was listed and scored, but for images that may still arrive."""
    covered: date | None = None
    for night in nights:
        if night.state == "failed" or night.skipped or not (night.listed_since and night.listed_until):
            continue
        since, until = date.fromisoformat(night.listed_since), date.fromisoformat(night.listed_until)
        earliest = date.fromisoformat(night.night) - catch_up_days * _DAY
        # A run over some days only, as with --since, says nothing of the days before them.
        if covered is None or since <= max(covered - lateness_days * _DAY, earliest):
            covered = max(until, covered or until)
    return covered
