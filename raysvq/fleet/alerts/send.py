"""A run's findings, as one message per route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time

from raysvq.fleet.alerts.deliver import deliver
from raysvq.fleet.alerts.message import compose
from raysvq.fleet.alerts.open_alerts import Due, Key, Open, due, hold, observe, tell
from raysvq.fleet.alerts.report import AlertReport
from raysvq.fleet.alerts.state import Routes, read_open, write_open
from raysvq.fleet.options import NARROWING
from raysvq.fleet.settings.cameras import Route
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.records import CameraNight, Finding, FleetRun
from raysvq.storage import join

_RUN = ""  # the camera of findings about the run itself
_WITHOUT_IMAGES = frozenset({"run", "volume", "freshness"})  # signals that need no new image


@dataclass(frozen=True)
class _Owed:
    """What a route is to be told now, and what waits for its quiet hours to end."""

    alerts: Mapping[Key, Open]
    now: Mapping[Key, Due]
    held: Mapping[Key, Due]


def send_alerts(
    run: FleetRun,
    nights: Mapping[str, CameraNight],
    fleet: Fleet,
    now: datetime,
    routes_of: Mapping[str, tuple[str, ...]],
) -> AlertReport:
    """Tell people what is new, worse, lasting or over, each route in one message.

    Called under the fleet's lease, before the run's record. What was told stands in
    `<out>/ledger/alerts/open.json`; a run that dies between telling and writing it tells it again.

    Args:
        nights: of the cameras that were inspected, by name.
        now: with a time zone.
        routes_of: names of the routes of each camera; one that is missing has them all.

    Returns:
        What was sent. A route that fails is named there, and keeps what it owes for the next run.

    Raises:
        StorageError: the state of the alerts cannot be read or written.
        DataError: it is damaged, or of a later version of raysvq.
    """
    before = read_open(fleet.out)
    findings = list(findings_of(run, nights))
    local = now.astimezone(fleet.timezone).time()
    owed: dict[str, _Owed] = {}
    for name, route in fleet.routes.items():
        tonight = [each for each in findings if name in routes_of.get(each.camera, (name,))]
        alerts = observe(
            before.get(name, {}), tonight, route.level, lambda *key: _is_measured(run, nights, *key), now
        )
        owed[name] = _owed(alerts, route, now, local)
    page = join(fleet.out, "page/index.html")
    messages = {name: compose(run, each.now.values(), page, name) for name, each in owed.items() if each.now}
    failed = deliver(messages, fleet.routes)
    told = {name: owed[name].now for name in messages if name not in failed}
    every = {name: tell(each.alerts, told.get(name, ()), now) for name, each in owed.items()}
    after: Routes = {name: each for name, each in every.items() if each}
    if after != before:
        write_open(fleet.out, after)
    return _report(list(told.values()), sum(len(each.held) for each in owed.values()), failed)


def findings_of(run: FleetRun, nights: Mapping[str, CameraNight]) -> Iterator[Finding]:
    """What was found at the cameras, those that failed, and the problems of the run itself."""
    for night in nights.values():
        yield from night.findings
        if night.failure and not any(each.signal == "run" for each in night.findings):
            yield Finding(night.camera, "run", "error", night.failure)
    if run.problems:
        yield Finding(_RUN, "run", "error", "; ".join(run.problems))


def _is_measured(run: FleetRun, nights: Mapping[str, CameraNight], camera: str, signal: str) -> bool:
    """Whether a finding that is not there tonight is over, rather than not looked for."""
    if camera == _RUN:
        return not run.arguments.keys() & NARROWING
    night = nights.get(camera)
    if night is None or night.failure:
        return False
    return signal in _WITHOUT_IMAGES or night.scored > 0


def _owed(alerts: Mapping[Key, Open], route: Route, now: datetime, local: time) -> _Owed:
    waiting = due(alerts, route.repeat_after, route.min_runs, now)
    quiet = route.quiet_hours is not None and is_within(local, route.quiet_hours)
    held = {key: each for key, each in waiting.items() if quiet and not _wakes(each, route)}
    return _Owed(hold(alerts, held), {key: each for key, each in waiting.items() if key not in held}, held)


def _wakes(each: Due, route: Route) -> bool:
    return route.wake_for_errors and each.finding.level == "error" and each.change != "over"


def is_within(local: time, hours: tuple[time, time]) -> bool:
    """Whether a time of the day is in hours that may go past midnight; their end is not."""
    start, end = hours
    return start <= local < end if start < end else local >= start or local < end


def _report(told: Sequence[Mapping[Key, Due]], held: int, failed: dict[str, str]) -> AlertReport:
    changes = [each.change for of_a_route in told for each in of_a_route.values()]
    repeated = changes.count("lasting")
    return AlertReport(len(changes) - repeated, held, repeated, failed)
