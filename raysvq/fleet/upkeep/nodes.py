"""What is on each machine of a cluster: versions, GPUs, disk, clock."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata

from raysvq import __version__
from raysvq.settings import RaySettings

PACKAGES = ("ray", "torch", "pyarrow", "numpy", "pydantic", "obstore", "duckdb", "safetensors")
_ANSWER_S = 60.0


@dataclass(frozen=True)
class Node:
    """What a machine says of itself."""

    name: str
    versions: tuple[tuple[str, str | None], ...]  # of Python, raysvq and PACKAGES; None: not installed
    gpus: tuple[str, ...]  # their names
    temp_folder: str
    free_bytes: int  # of it
    clock: float  # seconds since 1970
    asked: tuple[float, float]  # between these moments of the clock of who asked


@dataclass(frozen=True)
class Unreachable:
    """A machine that did not answer."""

    name: str
    why: str


def this_node() -> Node:
    """Of the machine that this process runs on."""
    import torch

    folder, now = tempfile.gettempdir(), time.time()
    gpus = range(torch.cuda.device_count())
    return Node(
        name=socket.gethostname(),
        versions=(
            ("Python", platform.python_version()),
            ("raysvq", __version__),
            *((name, _version(name)) for name in PACKAGES),
        ),
        gpus=tuple(torch.cuda.get_device_name(gpu) for gpu in gpus),
        temp_folder=folder,
        free_bytes=shutil.disk_usage(folder).free,
        clock=now,
        asked=(now, now),
    )


def machines(settings: RaySettings) -> list[Node | Unreachable]:
    """This machine first; behind it the others of the cluster, where settings or environment name one.

    Raises:
        SettingsError: that cluster cannot be reached.
    """
    mine = this_node()
    if not (settings.address or os.environ.get("RAY_ADDRESS")):
        return [mine]
    from raysvq.runtime.cluster import connect

    connect(settings)
    return [mine, *(node for node in ask_cluster() if node.name != mine.name)]


def ask_cluster() -> Iterator[Node | Unreachable]:
    """Of every machine of the cluster that this process has joined."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for each in ray.nodes():  # type: ignore[no-untyped-call]
        if each["Alive"]:
            there = NodeAffinitySchedulingStrategy(each["NodeID"], soft=False)
            task = ray.remote(this_node).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked.append((each, time.time(), task.remote()))
    for each, since, answer in asked:
        name = each["NodeManagerHostname"]
        try:
            node: Node = ray.get(answer, timeout=_ANSWER_S)
        except ray.exceptions.RayError as error:
            yield Unreachable(name, str(error).strip().splitlines()[-1])
        else:  # Ray hides GPUs from a task that asks for none
            yield replace(node, gpus=_gpus(each["Resources"]), asked=(since, time.time()))


def _gpus(resources: Mapping[str, float]) -> tuple[str, ...]:
    """Of Ray's names of a machine's resources, such as `GPU` and `accelerator_type:H100`."""
    kinds = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    return tuple(kinds[:1] or ["of an unknown kind"]) * int(resources.get("GPU", 0))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
