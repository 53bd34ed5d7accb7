"""Spans of time and hours of the day, as people write them into a file: `36h`, `22:00-06:00`."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


def _span(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not float(match[1]):
        raise ValueError(f"found {value!r}, expected a number and s, m, h, d or w, such as 90m, 36h or 1d")
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        raise ValueError("expected less than 999,999,999 days") from None


def _hours(value: Any) -> Any:
    if isinstance(value, tuple):
        return value
    match = _HOURS.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match:
            start, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
            if start != end:
                return start, end
    except ValueError:
        pass
    raise ValueError(f'found {value!r}, expected two times of the day in quotes, such as "22:00-06:00"')


Span = Annotated[timedelta, BeforeValidator(_span)]
QuietHours = Annotated[
    tuple[time, time], BeforeValidator(_hours)
]  # from, until; past midnight where until < from
