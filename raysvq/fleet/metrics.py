"""A run's numbers for Prometheus, through Ray's own exporter."""

from __future__ import annotations

from collections.abc import Mapping

from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.settings import RaySettings


def report_metrics(run: FleetRun, nights: Mapping[str, CameraNight], settings: RaySettings) -> bool:
    """Export the run's gauges on the cluster that is joined, or that `ray.address` or RAY_ADDRESS names.

    Returns:
        Whether there is one: a cluster that this process started ends with it, and nobody asks it.
    """
    raise NotImplementedError
