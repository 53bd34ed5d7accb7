"""Which alerts of a route are open, and which of them are due. Nothing here reads, writes or sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from raysvq.ledger.records import Finding, Level

Key = tuple[str, str]  # camera ("" for the run itself) and signal
Change = Literal["new", "worse", "lasting", "over"]

SEVERITY: dict[Level, int] = {"info": 0, "warning": 1, "error": 2}
FORGET = timedelta(days=90)  # an alert whose camera was not inspected for so long

_SLACK = timedelta(hours=1)  # nightly runs do not start at the same second


@dataclass(frozen=True)
class Open:
    """A finding that a route was told of, or is to be told of."""

    finding: Finding  # as it was last seen
    seen: int  # runs in a row that showed it
    seen_at: datetime
    told: Level | None = None  # highest level that was sent; None: nothing yet
    told_at: datetime | None = None
    held: bool = False  # whether quiet hours kept it back
    over: bool = False  # no longer there; its route does not know yet


@dataclass(frozen=True)
class Due:
    """An alert that its route is to be told of."""

    change: Change
    finding: Finding


def observe(
    known: Mapping[Key, Open],
    tonight: Iterable[Finding],
    level: Level,
    is_measured: Callable[[str, str], bool],
    now: datetime,
) -> dict[Key, Open]:
    """The alerts of a route after a run.

    Args:
        known: those before it.
        tonight: findings of all levels at the cameras of the route.
        level: from which on the route is told.
        is_measured: whether the run could have found a signal at a camera. Where it could not, an alert
            stays as it is.
    """
    found = {(each.camera, each.signal): each for each in sorted(tonight, key=_severity)}
    after: dict[Key, Open] = {}
    for key, finding in found.items():
        before = known.get(key)
        if SEVERITY[finding.level] >= SEVERITY[level]:
            after[key] = _seen(before, finding, now)
        elif before is not None:
            after[key] = replace(before, seen_at=now, over=False)
    for key, before in known.items():
        if key in after or now - before.seen_at > FORGET:
            continue
        if not is_measured(*key):
            after[key] = before
        elif before.told or before.held:
            after[key] = replace(before, over=True)
    return after


def due(alerts: Mapping[Key, Open], repeat_after: timedelta, min_runs: int, now: datetime) -> dict[Key, Due]:
    """What a route is to be told now, if its hours allow it.

    Args:
        repeat_after: an alert that lasts is told again after so long.
        min_runs: an alert is told once so many runs in a row have shown it.
    """
    changes = {key: _change(alert, repeat_after, min_runs, now) for key, alert in alerts.items()}
    return {key: Due(change, alerts[key].finding) for key, change in changes.items() if change}


def hold(alerts: Mapping[Key, Open], keys: Iterable[Key]) -> dict[Key, Open]:
    """The alerts of a route after its quiet hours kept some back."""
    return {**alerts, **{key: replace(alerts[key], held=True) for key in keys}}


def tell(alerts: Mapping[Key, Open], keys: Iterable[Key], now: datetime) -> dict[Key, Open]:
    """The alerts of a route after it took a message about some of them."""
    told = set(keys)
    after = {key: alert for key, alert in alerts.items() if key not in told}
    for key in told:
        if not alerts[key].over:
            highest = max(alerts[key].finding.level, alerts[key].told or "info", key=SEVERITY.__getitem__)
            after[key] = replace(alerts[key], told=highest, told_at=now, held=False)
    return after


def _severity(finding: Finding) -> int:
    return SEVERITY[finding.level]


def _seen(before: Open | None, finding: Finding, now: datetime) -> Open:
    if before is None:
        return Open(finding, 1, now)
    return replace(before, finding=finding, seen=before.seen + 1, seen_at=now, over=False)


def _change(alert: Open, repeat_after: timedelta, min_runs: int, now: datetime) -> Change | None:
    if alert.over:
        return "over"
    if alert.seen < min_runs:
        return None
    if alert.told is None or alert.told_at is None:
        return "new"
    if SEVERITY[alert.finding.level] > SEVERITY[alert.told]:
        return "worse"
    lasts = alert.seen_at == now and now - alert.told_at >= repeat_after - _SLACK
    return "lasting" if lasts else None
