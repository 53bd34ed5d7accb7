"""Who is told of a run: its page, alerts, metrics and digest. None of them can fail the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from raysvq import log
from raysvq.errors import first_line
from raysvq.fleet.alerts import digest, send_alerts
from raysvq.fleet.planning.asked import Asked
from raysvq.fleet.settings.cameras import Camera
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import run_uri
from raysvq.report.fleet import write_page
from raysvq.storage import write_bytes


def tell(
    fleet: Fleet,
    run: FleetRun,
    nights: Mapping[str, CameraNight],
    asked: Asked,
    cameras: Mapping[str, Camera],
) -> FleetRun:
    """Write page, metrics and digest, and send alerts.

    Args:
        asked: with the earlier runs.
        cameras: of the run, by name.

    Returns:
        The run, with what did not work as its problems.
    """
    problems: list[str] = []

    def show() -> None:
        changed = {name for name, night in nights.items() if night.state != "quiet"}
        nights_of = {of_run[0].run_id: of_run for of_run in asked.history if of_run}
        of_runs = [nights_of.get(one.run_id, ()) for one in asked.runs]
        all_nights = [*of_runs, list(nights.values())]
        page = write_page(fleet.out, [*asked.runs, run], all_nights, changed, timezone=fleet.timezone)
        log.info(f"page: {page}", "page", page=page)

    def alert() -> None:
        routes = {name: camera.routes for name, camera in cameras.items()}
        report = send_alerts(run, nights, fleet, datetime.now(UTC), routes)
        problems.extend(f"alert route {route}: {why}" for route, why in report.failed.items())
        if report.sent or report.repeated or report.held:
            log.info(f"alerts: {report.sent} sent, {report.repeated} repeated, {report.held} held", "alerts")

    try_to("the fleet's page", show, problems)
    try_to("alerts", alert, problems)
    try_to("metrics", lambda: _measure(fleet, run, nights), problems)
    run = replace(run, problems=(*run.problems, *problems))
    late: list[str] = []
    uri = run_uri(fleet.out, run.number, "md")
    try_to("the digest", lambda: write_bytes(uri, digest(run, nights).encode()), late)
    return replace(run, problems=(*run.problems, *late))


def _measure(fleet: Fleet, run: FleetRun, nights: Mapping[str, CameraNight]) -> None:
    """Export metrics where there is a cluster that lasts; Ray is not imported for them alone."""
    if "ray" in sys.modules or fleet.settings.ray.address or "RAY_ADDRESS" in os.environ:
        from raysvq.fleet.metrics.names import report_metrics

        report_metrics(run, nights, fleet.settings.ray)


def try_to(what: str, call: Callable[[], object], problems: list[str]) -> None:
    """Call what may not fail the run; add to its problems where it does."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, the images are scored and the run goes on
        problems.append(f"{what}: {type(error).__name__}: {first_line(error)}")
