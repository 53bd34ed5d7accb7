"""Simulated nodes of a cluster that come and go."""

from __future__ import annotations

from typing import Any

NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 2**27}
# A node that is lost counts as dead after two seconds, not a quarter of a minute.
WATCHFUL = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
