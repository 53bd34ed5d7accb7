"""A run's numbers for Prometheus, through Ray's own exporter.

Ray exports what was set in the last 10 s (`metrics_report_interval_ms`) once, and shows it for 20 s, so that
Prometheus seldom sees what a driver sets before it ends. A small detached actor sets the gauges again and
again, until the next run takes its place or the cluster ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq import log
from raysvq.fleet.options import NARROWING
from raysvq.ledger.records import CameraNight, FleetRun, State
from raysvq.runtime.cluster import connect
from raysvq.settings import RaySettings

MAX_CAMERAS = 1500  # beyond it, series of cameras that need a look alone: Ray loses a metric with 2,000
SET_AGAIN_S = 5.0  # half of Ray's interval
START_S = 60.0  # for the actor that holds the gauges

_NAMESPACE = "raysvq"


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

    1,000 cameras are 5,000 series; `docs/scheduling.md` says what they cost.

    Args:
        nights: of all cameras. A run that was narrowed, as by `--only`, reports nothing: the series of the
            other cameras would go.

    Returns:
        Whether they are exported. A cluster that this process started ends with it, and nobody asks it.

    Raises:
        SettingsError: the cluster cannot be reached.
    """
    if run.arguments.keys() & NARROWING or not (settings.address or os.environ.get("RAY_ADDRESS")):
        return False
    connect(settings)
    try:
        _hold(run, list(samples(run, nights)))
    except RayError as error:
        log.warning(f"metrics of the run are not exported: {type(error).__name__}", "metrics")
        return False
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
    for night in nights.values():
        if len(nights) <= MAX_CAMERAS or _STATES[night.state]:
            yield from _of_camera(run, night)


def _of_camera(run: FleetRun, night: CameraNight) -> Iterator[Sample]:
    camera = night.camera
    yield _sample(run, "camera_state", _STATES[night.state], camera=camera)
    for outcome in ("scored", "anomalous", "rejected"):
        yield _sample(run, f"camera_{outcome}", getattr(night, outcome), camera=camera)
    if night.last_image:
        yield _sample(run, "camera_last_image_timestamp_seconds", night.last_image.timestamp(), camera=camera)


def _sample(run: FleetRun, name: str, value: float, **tags: str) -> Sample:
    return Sample(f"raysvq_fleet_{name}", float(value), {"fleet": run.fleet, **tags})


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


class _Holder:
    """An actor that exports gauges as long as it lives."""

    def export(self, values: list[Sample]) -> None:
        """Set them now, and from then on every SET_AGAIN_S seconds."""
        gauges = {
            name: Gauge(name, metric.description, ("fleet", *metric.tags)) for name, metric in METRICS.items()
        }
        Thread(target=_set_for_ever, args=(gauges, values), daemon=True).start()


def _set_for_ever(gauges: Mapping[str, Gauge], values: list[Sample]) -> None:
    while True:
        for each in values:
            gauges[each.metric].set(each.value, dict(each.tags))
        time.sleep(SET_AGAIN_S)


def _hold(run: FleetRun, values: list[Sample]) -> None:
    """Put a new holder in the place of the one of the run before."""
    prefix = f"metrics of {run.fleet}, run "
    for actor in list_named_actors(all_namespaces=True):
        if actor["namespace"] == _NAMESPACE and actor["name"].startswith(prefix):
            with suppress(ValueError):  # it has gone by itself
                ray.kill(ray.get_actor(actor["name"], _NAMESPACE))
    # Without a CPU it keeps no node up. The driver's node, the head as a rule, stays longest.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    holder: Any = ray.remote(_Holder)
    options = {"num_cpus": 0, "lifetime": "detached", "scheduling_strategy": here}
    held = holder.options(name=f"{prefix}{run.run_id}", namespace=_NAMESPACE, **options).remote()
    ray.get(held.export.remote(values), timeout=START_S)
