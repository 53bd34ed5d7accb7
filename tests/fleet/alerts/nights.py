"""Runs, nights and findings as small as tests can do with."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from raysvq.fleet.settings.cameras import Route, WatchSettings
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.records import CameraNight, Finding, FleetRun, Level
from raysvq.settings import Settings

NIGHT = "2026-11-12"
NOON = datetime(2026, 11, 12, 12, 0, tzinfo=UTC)


def finding(camera: str, signal: str = "exposure", level: Level = "warning", sentence: str = "") -> Finding:
    return Finding(camera, signal, level, sentence or f"{camera} is 0.8 stops darker than its reference")


def night(camera: str, *findings: Finding, **values: Any) -> CameraNight:
    state = max((each.level for each in findings), key=("info", "warning", "error").index, default="ok")
    given = {"state": "ok" if state == "info" else state, "scored": 50, "listed": 50, "new": 50} | values
    return CameraNight(camera, "run", NIGHT, findings=findings, **given)


def nights(*given: CameraNight) -> dict[str, CameraNight]:
    return {each.camera: each for each in given}


def run(number: int = 1, **values: Any) -> FleetRun:
    given: dict[str, Any] = {
        "run_id": f"run-{number}",
        "fleet": "north-plant",
        "night": NIGHT,
        "started_at": "2026-11-12T02:15:00+00:00",
        "ended_at": "2026-11-12T02:25:00+00:00",
        "code_version": "0.1.0",
        "fleet_digest": "0",
        "arguments": {},
        "cameras": 2,
        "by_state": {"ok": 2},
        "listed": 100,
        "scored": 100,
        "anomalous": 3,
        "rejected": 1,
        "skipped": 0,
        "failed": 0,
        "images_per_s": 12.5,
        "worker_seconds": 8.0,
        "findings": {},
    }
    return FleetRun(number, **given | values)


def fleet(out: Path, **routes: Route) -> Fleet:
    return Fleet(
        file="fleet.yaml",
        name="north-plant",
        out=str(out),
        timezone=ZoneInfo("Europe/Berlin"),
        lateness_days=3,
        catch_up_days=31,
        entries=(),
        overrides=(),
        settings=Settings(),
        watch=WatchSettings(),
        routes=routes,
        digest="0",
    )


def webhook(**values: Any) -> Route:
    return Route(kind="webhook", url_env="OPS_WEBHOOK", **values)


QUIET = (time(22), time(6))
