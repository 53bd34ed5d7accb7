"""A run's numbers for Prometheus: their names, and their values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from raysvq.fleet.options import NARROWING
from raysvq.ledger.records import CameraNight, FleetRun, State
from raysvq.settings import RaySettings

MAX_CAMERAS = 200  # with series of their own, the worst ones: each costs Ray's processes memory and time


@dataclass(frozen=True)
class Metric:
    """A gauge; Prometheus sees it as `ray_` and its name."""

    description: str
    tags: tuple[str, ...] = ()  # beside `fleet`


METRICS = {
    "raysvq_fleet_run_ended_timestamp_seconds": Metric("When the last run ended, Unix time."),
    "raysvq_fleet_run_seconds": Metric("How long it took."),
    "raysvq_fleet_run_exit_code": Metric(
        "0 all well, 1 some cameras failed or alarmed, 2 nothing could run."
    ),
    "raysvq_fleet_cameras": Metric("Cameras by state: ok, quiet, warning, error, failed.", ("state",)),
    "raysvq_fleet_images": Metric(
        "Images of the run: listed, scored, anomalous, rejected, skipped.", ("outcome",)
    ),
    "raysvq_fleet_findings": Metric("Findings by level: info, warning, error.", ("level",)),
    "raysvq_fleet_problems": Metric("Problems of the run itself, such as a prefix that cannot be listed."),
    "raysvq_fleet_images_per_second": Metric("Images scored per second of the run's scoring."),
    "raysvq_fleet_worker_seconds": Metric("Seconds of its workers: what the run costs."),
    "raysvq_fleet_camera_state": Metric("0 ok or quiet, 1 warning, 2 error, 3 failed.", ("camera",)),
    "raysvq_fleet_camera_scored": Metric("Images of the run that were scored at a camera.", ("camera",)),
    "raysvq_fleet_camera_anomalous": Metric("Those of them that are anomalous.", ("camera",)),
    "raysvq_fleet_camera_rejected": Metric("Images of the run that were rejected there.", ("camera",)),
    "raysvq_fleet_camera_last_image_timestamp_seconds": Metric(
        "When its newest image was taken or written, Unix time.", ("camera",)
    ),
}

_STATES: dict[State, int] = {"ok": 0, "quiet": 0, "warning": 1, "error": 2, "failed": 3}


@dataclass(frozen=True)
class Sample:
    """A value of a gauge."""

    metric: str
    value: float
    tags: Mapping[str, str]


def report_metrics(run: FleetRun, nights: Mapping[str, CameraNight], settings: RaySettings) -> bool:
    """Export the run's gauges on the cluster that `ray.address` or RAY_ADDRESS names, until the next run.

    At most MAX_CAMERAS cameras have series of their own, five each; `docs/scheduling.md` says what they cost.

    Args:
        nights: of all cameras. A run that was narrowed, as by `--only`, reports nothing: the series of the
            other cameras would go.

    Returns:
        Whether they are exported. A cluster that this process started ends with it, and nobody asks it.

    Raises:
        SettingsError: the cluster cannot be reached.
        RayError: it does not start the process that exports them.
    """
    if run.arguments.keys() & NARROWING or not (settings.address or os.environ.get("RAY_ADDRESS")):
        return False
    from raysvq.fleet.metrics.exporting import export  # brings Ray

    export(f"{run.fleet}, run ", run.run_id, list(samples(run, nights)), settings)
    return True


def samples(run: FleetRun, nights: Mapping[str, CameraNight]) -> Iterator[Sample]:
    """Every gauge's values."""
    of_run = {
        "run_ended_timestamp_seconds": _unix(run.ended_at),
        "run_seconds": _unix(run.ended_at) - _unix(run.started_at),
        "run_exit_code": run.exit_code,
        "problems": len(run.problems),
        "images_per_second": run.images_per_s,
        "worker_seconds": run.worker_seconds,
    }
    for name, value in of_run.items():
        yield _sample(run, name, value)
    for state in _STATES:
        yield _sample(run, "cameras", run.by_state.get(state, 0), state=state)
    for outcome in ("listed", "scored", "anomalous", "rejected", "skipped"):
        yield _sample(run, "images", getattr(run, outcome), outcome=outcome)
    for level in ("info", "warning", "error"):
        yield _sample(run, "findings", run.findings.get(level, 0), level=level)
    for night in sorted(nights.values(), key=_worst_first)[:MAX_CAMERAS]:
        yield from _of_camera(run, night)


def _of_camera(run: FleetRun, night: CameraNight) -> Iterator[Sample]:
    camera = night.camera
    yield _sample(run, "camera_state", _STATES[night.state], camera=camera)
    for outcome in ("scored", "anomalous", "rejected"):
        yield _sample(run, f"camera_{outcome}", getattr(night, outcome), camera=camera)
    if night.last_image:
        yield _sample(run, "camera_last_image_timestamp_seconds", night.last_image.timestamp(), camera=camera)


def _worst_first(night: CameraNight) -> tuple[float, float, str]:
    return -_STATES[night.state], -night.anomalous / max(night.scored, 1), night.camera


def _sample(run: FleetRun, name: str, value: float, **tags: str) -> Sample:
    return Sample(f"raysvq_fleet_{name}", float(value), {"fleet": run.fleet, **tags})


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
