"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass

import ray

from raysvq.errors import SettingsError
from raysvq.settings import RaySettings


@dataclass(frozen=True)
class Capacity:
    """What a cluster has to offer."""

    cpus: float
    gpus: float
    nodes: int


def connect(settings: RaySettings) -> Capacity:
    """Join `ray.address`, else the cluster this job was submitted to, else start one here.

    A cluster started here lasts as long as the process and is closed to others by a token.

    Raises:
        SettingsError: the address cannot be reached.
    """
    if not ray.is_initialized():
        address = settings.address or os.environ.get("RAY_ADDRESS")
        if address:
            _join(address)
        else:
            _start(settings)
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    total = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    return Capacity(total.get("CPU", 0.0), total.get("GPU", 0.0), nodes)


def _join(address: str) -> None:
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(f"setting `ray.address`: no Ray cluster at {address!r}: {error}") from None


def _start(settings: RaySettings) -> None:
    # Ray turns token authentication on by itself, and would leave the token in the home folder.
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=settings.cpus or max(2, os.cpu_count() or 2),
        object_store_memory=settings.object_store_mib * 2**20,
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
    )
