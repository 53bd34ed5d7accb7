"""How many CPUs and GPUs each training worker gets; refuses what could never start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity
from raysvq.settings import TrainingSettings

_SHARES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125)  # CPUs a worker may ask for, the most that fits is taken


@dataclass(frozen=True)
class WorkerPlan:
    """What each of the workers asks of the cluster."""

    workers: int
    cpus: float
    use_gpu: bool
    threads: int  # of PyTorch, on CPU
    least: int  # workers that are enough to start and to go on

    @property
    def number(self) -> int | tuple[int, int]:
        """Of workers, as Ray Train takes it: fixed, or from and to."""
        return self.workers if self.least == self.workers else (self.least, self.workers)

    @property
    def resources(self) -> dict[str, float]:
        """As Ray Train takes them."""
        return {"CPU": self.cpus} | ({"GPU": 1.0} if self.use_gpu else {})


def plan_workers(settings: TrainingSettings, capacity: Capacity) -> WorkerPlan:
    """Fit the workers into the cluster, with CPU left for reading data, if possible on every node.

    Raises:
        SettingsError: the cluster is too small, or the batch cannot be shared out evenly.
    """
    workers, least = settings.workers, settings.min_workers or settings.workers
    _require_shares(settings.batch_size, least, workers)
    use_gpu = settings.device == "cuda" or (settings.device == "auto" and capacity.gpus >= least)
    if use_gpu and capacity.gpus < least:
        raise SettingsError(
            f"setting `training.device`: cuda with {_name(least, workers)} needs {least} GPUs,"
            f" the cluster has {capacity.gpus:g}"
        )
    fitting = [share for share in _SHARES if capacity.places(share, use_gpu) >= least]
    cpus = next((share for share in fitting if _keep_a_cpu_each(capacity, share, use_gpu, workers)), None)
    if cpus is None and least == workers:
        cpus = next((share for share in fitting if capacity.keeps_a_cpu(workers, share)), None)
    if cpus is None:
        raise SettingsError(
            f"setting `training.workers`: {least} workers and a CPU for reading data"
            f"{'' if least == workers else ' on each node that holds some'} do not"
            f" fit into {capacity.cpus:g} CPUs on {len(capacity.nodes)} node(s)"
        )
    hosts = sum(node.cpus >= cpus and node.gpus >= use_gpu for node in capacity.nodes)
    most_cpus = max(node.cpus for node in capacity.nodes)
    together = min(-(-workers // hosts), int(most_cpus / cpus))  # on one node
    threads = max(1, int(most_cpus / together))
    return WorkerPlan(workers, cpus, use_gpu, threads, least)


def _require_shares(batch_size: int, least: int, most: int) -> None:
    """Every number of workers that may come about shares the batch out evenly."""
    multiple = math.lcm(*range(least, most + 1))
    if batch_size % multiple:
        raise SettingsError(
            f"setting `training.batch_size`: {batch_size} cannot be shared evenly by"
            f" {_name(least, most)}; expected a multiple of {multiple}"
        )
    if batch_size // most < 2:
        raise SettingsError(
            f"setting `training.batch_size`: {batch_size} leaves fewer than 2 tiles for each of"
            f" training.workers={most}"
        )


def _keep_a_cpu_each(capacity: Capacity, share: float, use_gpu: bool, workers: int) -> bool:
    """Whether each node full of workers has a CPU left to read with, whichever nodes are lost."""
    full = (
        (node, min(workers, int(node.cpus / share), int(node.gpus) if use_gpu else workers))
        for node in capacity.nodes
    )
    return all(node.cpus - held * share >= 1 for node, held in full if held)


def _name(least: int, most: int) -> str:
    if least == most:
        return f"training.workers={most}"
    return f"training.min_workers={least} to training.workers={most}"
