"""Dates, times and durations as the page writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo


def instant(stamp: str | datetime) -> datetime:
    """A time with its zone; one without is in UTC."""
    found = datetime.fromisoformat(stamp) if isinstance(stamp, str) else stamp
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def clock(stamp: str | datetime, zone: tzinfo) -> str:
    """A time in a zone, such as `12 Nov, 03:10`."""
    return f"{instant(stamp).astimezone(zone):%-d %b, %H:%M}"


def iso(stamp: str | datetime) -> str:
    """A time in UTC, in ISO 8601."""
    return f"{instant(stamp).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def day(night: str | date) -> str:
    """A date, such as `12 Nov`."""
    return f"{date.fromisoformat(night) if isinstance(night, str) else night:%-d %b}"


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best, such as `14 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def took_s(started_at: str, ended_at: str) -> float:
    """Seconds between two times."""
    return (instant(ended_at) - instant(started_at)).total_seconds()
