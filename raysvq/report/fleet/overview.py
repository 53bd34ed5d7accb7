"""What the overview of a fleet says."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from markupsafe import Markup

from raysvq.evaluation.labelled_images import free_name
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.report.fleet.addresses import camera_link
from raysvq.report.fleet.history import (
    LEVELS,
    SEVERITY,
    UNWELL,
    CameraHistory,
    alarm_rate,
    ordered,
    stands_out,
)
from raysvq.report.fleet.sparkline import Sparkline, sparkline
from raysvq.report.fleet.times import instant
from raysvq.report.page import coded, script_json

_NAMED = 6  # cameras in the verdict, and problems of the run; the others are a click away


@dataclass(frozen=True)
class Row:
    """A camera in the table."""

    camera: str
    link: str
    night: CameraNight
    rate: float | None
    sentence: str
    details: str  # fields that its name does not say
    old: bool  # its night is not that of the newest run
    spark: Sparkline


@dataclass(frozen=True)
class FleetView:
    """All that the template of the overview needs."""

    headline: str
    unwell: str  # how many of which state; empty if none
    rows: list[Row]  # those that need a look first
    attention: list[Row]
    more: int  # that need a look, too
    named: int  # problems of the run that are shown
    counts: list[tuple[str, int]]  # cameras by state, the gravest first
    run: FleetRun | None  # the newest
    runs: list[FleetRun]  # newest first
    every_s: int | None  # usual seconds between runs
    data: Markup  # for the script


def view_fleet(runs: Sequence[FleetRun], cameras: Mapping[str, CameraHistory]) -> FleetView:
    """Gather it from runs, oldest first, and cameras, those that need a look first."""
    newest = runs[-1] if runs else None
    dates = [date.fromisoformat(run.night) for run in runs]
    rows = [
        _row(
            history, min(dates), max(dates), old=newest is not None and history.latest.run_id != newest.run_id
        )
        for history in cameras.values()
    ]
    unwell = [row for row in rows if row.night.state in UNWELL]
    states = Counter(row.night.state for row in rows)
    return FleetView(
        headline=_headline(len(rows), len(unwell)),
        unwell=", ".join(
            f"{states[state]:,} {_plural(state, states[state])}" for state in UNWELL if states[state]
        ),
        rows=rows,
        attention=unwell[:_NAMED],
        more=len(unwell[_NAMED:]),
        named=_NAMED,
        counts=[(state, states[state]) for state in SEVERITY],
        run=newest,
        runs=list(reversed(runs)),
        every_s=_every_s(runs),
        data=script_json(_data(rows)),
    )


def _headline(cameras: int, unwell: int) -> str:
    if not cameras:
        return "No camera has been inspected yet."
    if not unwell:
        return "The one camera is well." if cameras == 1 else f"All {cameras:,} cameras are well."
    if unwell == cameras:
        return "The one camera needs a look." if cameras == 1 else f"All {cameras:,} cameras need a look."
    needs, well = "needs" if unwell == 1 else "need", cameras - unwell
    return f"{unwell:,} of {cameras:,} cameras {needs} a look, {well:,} {'is' if well == 1 else 'are'} well."


def _plural(state: str, number: int) -> str:
    return state if state == "failed" or number == 1 else f"{state}s"


def _row(history: CameraHistory, first: date, last: date, *, old: bool) -> Row:
    night = history.latest
    return Row(
        camera=history.camera,
        link=camera_link(history.camera),
        night=night,
        rate=alarm_rate(night),
        sentence=stands_out(night),
        details=" · ".join(value for value in night.fields.values() if value not in night.camera.split(".")),
        old=old,
        spark=sparkline(history.dates, first, last),
    )


def _every_s(runs: Sequence[FleetRun]) -> int | None:
    starts = [instant(run.started_at) for run in runs]
    gaps = [(after - before).total_seconds() for before, after in pairwise(starts)]
    return round(statistics.median(gaps)) if gaps else None


def _data(rows: Sequence[Row]) -> dict[str, object]:
    """What is filtered and sorted by, in columns; null comes last in every order.

    A field that differs from camera to camera is left out: the search finds it.
    """
    named: dict[str, list[str | None]] = {}
    for key in sorted({key for row in rows for key in row.night.fields}):
        named[key] = [row.night.fields.get(key) for row in rows]
    named[free_name("model", named)] = [row.night.model_version or row.night.model for row in rows]
    return {
        "columns": [coded(name, values) for name, values in named.items() if 1 < len({*values}) < len(rows)],
        "names": [row.camera for row in rows],
        "states": [row.night.state for row in rows],
        "finding": [_finding_rank(row.night) for row in rows],
        "last": [row.night.last_image and instant(row.night.last_image).timestamp() for row in rows],
        "images": [row.night.scored for row in rows],
        "rate": [row.rate for row in rows],
    }


def _finding_rank(night: CameraNight) -> int:
    if night.failure:
        return 0
    findings = ordered(night.findings)
    return 1 + (LEVELS.index(findings[0].level) if findings else len(LEVELS))
