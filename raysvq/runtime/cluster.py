"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError

from raysvq import log
from raysvq.errors import SettingsError
from raysvq.settings import RaySettings

ANSWER_S = 10.0  # timeout for the cluster's head
_PLACE = "/tmp"  # folder of Ray's files if TMPDIR does not fit
# The path of a socket takes 107 bytes at most on Linux.
_LONGEST_PLACE = 107 - len("/ray/session_2026-12-31_23-59-59_999999_9999999/sockets/plasma_store.1")


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine of a cluster."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """CPUs and GPUs of a cluster, machine by machine."""

    nodes: tuple[Node, ...]

    @property
    def cpus(self) -> float:
        """CPUs of all machines."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all machines."""
        return sum(node.gpus for node in self.nodes)

    def places(self, cpus: float, use_gpu: bool) -> int:
        """How many processes fit, each with `cpus` CPUs and, if `use_gpu`, one GPU."""
        return sum(
            min(int(node.cpus / cpus), int(node.gpus)) if use_gpu else int(node.cpus / cpus)
            for node in self.nodes
        )

    def keeps_a_cpu(self, count: int, cpus: float) -> bool:
        """Whether a whole CPU stays free on some machine, wherever `count` processes of `cpus` each run.

        A task of one CPU would wait for ever if the free CPU were spread over several machines.
        """
        to_fill_all = sum(int((node.cpus - 1) / cpus) + 1 for node in self.nodes if node.cpus >= 1)
        return count < to_fill_all


def connect(settings: RaySettings) -> Capacity:
    """Join `ray.address`, else the cluster this job was submitted to, else start one here.

    A cluster started here lasts as long as the process and is closed to others by a token.

    Raises:
        SettingsError: the address cannot be reached, or the machine has not the memory asked for.
    """
    if not ray.is_initialized():
        address = settings.address or os.environ.get("RAY_ADDRESS")
        if address:
            _join(address)
        else:
            _start(settings)
    log.adopt("ray")
    for name in ("ray.data", "ray.train", "ray.tune"):  # what they log is in the error, see failures.py
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return find_capacity()


def find_capacity() -> Capacity:
    """What the cluster that this process has joined has to offer now."""
    return Capacity(tuple(Node(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in machines_up()))


def machines_up() -> list[Mapping[str, float]]:
    """What each machine that is up has, free or not, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def can_grow() -> bool:
    """Whether machines may join later: not where this process has started the cluster for itself."""
    node = ray._private.worker._global_node
    return node is None or not node.is_head()


def quiet_ray_data() -> None:
    """Draw no progress bars of Ray Data. Apart from `connect`, since its import takes half a second."""
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False


def _join(address: str) -> None:
    if address.startswith("ray://"):
        raise SettingsError(
            f"setting `ray.address`: {address} is Ray Client, which cannot drive these jobs; expected `auto`"
            " or HOST:PORT on a machine of the cluster; from elsewhere `ray job submit` takes them there"
        )
    where = urlsplit(address if "://" in address else f"//{address}")
    try:
        if where.hostname and where.port:  # ray.init would try for 15 minutes
            socket.create_connection((where.hostname, where.port), timeout=ANSWER_S).close()
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
        raise SettingsError(
            f"setting `ray.address`: no Ray cluster to join at {address!r}: {str(error).splitlines()[0]}"
        ) from None


def _start(settings: RaySettings) -> None:
    # Ray turns token authentication on by itself, and would leave the token in the home folder.
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    # A training run has more processes than a small machine has CPUs, which Ray would warn of.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
    folder = ray_folder(os.environ)
    try:
        ray.init(
            address="local",
            _temp_dir=folder,
            num_cpus=settings.cpus or max(2, os.cpu_count() or 2),
            object_store_memory=settings.object_store_mib * 2**20,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    except ValueError as error:
        raise SettingsError(
            f"setting `ray.object_store_mib`: {settings.object_store_mib} does not fit this machine:"
            f" {str(error).splitlines()[0]}"
        ) from None
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"Ray cannot start on this machine: {str(error).splitlines()[0]}") from None


def ray_folder(environment: Mapping[str, str]) -> str | None:
    """Folder for sockets and logs of a Ray started here; None for Ray's own choice, below TMPDIR.

    Raises:
        SettingsError: Ray cannot use RAY_TMPDIR.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in environment else "TMPDIR"
    place = environment.get(name)
    problem = "" if place is None else _unfit(place)
    if not problem:
        return None
    if name == "RAY_TMPDIR" or _unfit(_PLACE):
        raise SettingsError(f"{name}={place!r} {problem}; set RAY_TMPDIR to a folder such as /var/tmp")
    log.info(f"TMPDIR={place!r} {problem}: Ray keeps its own files in {_PLACE}/ray", "hint")
    return f"{_PLACE}/ray"


def _unfit(place: str) -> str:
    """Why Ray cannot keep its files in a folder; empty if it can."""
    length = len(os.fsencode(place))
    if length > _LONGEST_PLACE:
        return f"is too long for Ray's sockets, {length} bytes where {_LONGEST_PLACE} can be"
    if not place.startswith("/"):
        return "is no absolute path"
    if not re.fullmatch(r"[\w/.+-]+", place, re.ASCII):
        return "has characters that Ray's processes do not take"
    if not os.path.isdir(place):
        return "is no folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else "may not be written"
