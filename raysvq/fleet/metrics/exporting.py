"""Gauges through Ray's own exporter, for longer than the driver lives.

Ray exports what was set in the last 10 s (`metrics_report_interval_ms`) once, and shows it for 20 s, so that
Prometheus seldom sees what a driver sets before it ends. A detached actor sets the gauges again and again,
until the next run takes its place or the cluster ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

import ray
from ray.util import list_named_actors
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysvq.fleet.metrics.names import METRICS, Sample
from raysvq.runtime.cluster import connect
from raysvq.settings import RaySettings

SET_AGAIN_S = 5.0  # half of Ray's interval
START_S = 60.0  # for the actor

_NAMESPACE = "raysvq"


def export(what: str, of: str, values: Sequence[Sample], settings: RaySettings) -> None:
    """Export gauges from now on, in the place of earlier ones of the same.

    Args:
        what: names these gauges.
        of: names the run that they are of.

    Raises:
        SettingsError: the cluster cannot be reached.
        RayError: the actor does not start.
    """
    connect(settings)
    prefix = f"metrics of {what}"
    for actor in list_named_actors(all_namespaces=True):
        if actor["namespace"] == _NAMESPACE and actor["name"].startswith(prefix):
            with suppress(ValueError):  # it has gone by itself
                ray.kill(ray.get_actor(actor["name"], _NAMESPACE))
    # Without a CPU it keeps no node up. The driver's node, the head as a rule, stays longest.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    holder: Any = ray.remote(_Holder)
    options = {"num_cpus": 0, "lifetime": "detached", "scheduling_strategy": here}
    held = holder.options(name=f"{prefix}{of}", namespace=_NAMESPACE, **options).remote()
    ray.get(held.export.remote(list(values)), timeout=START_S)


class _Holder:
    """An actor that exports gauges as long as it lives."""

    def export(self, values: Sequence[Sample]) -> None:
        """Set them from now on, beside what called this."""
        gauges = {
            name: Gauge(name, metric.description, ("fleet", *metric.tags)) for name, metric in METRICS.items()
        }
        Thread(target=_set_for_ever, args=(gauges, values), daemon=True).start()


def _set_for_ever(gauges: Mapping[str, Gauge], values: Sequence[Sample]) -> None:
    while True:
        for each in values:
            gauges[each.metric].set(each.value, dict(each.tags))
        time.sleep(SET_AGAIN_S)
