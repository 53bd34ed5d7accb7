"""How many CPUs and GPUs each training worker gets; refuses what could never start."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.cluster import Capacity
from raysvq.errors import SettingsError
from raysvq.settings import TrainingSettings

_SHARES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.25, 0.125)  # CPUs a worker may ask for, the most that fits is taken


@dataclass(frozen=True)
class WorkerPlan:
    """What each of the workers asks of the cluster."""

    workers: int
    cpus: float
    use_gpu: bool
    threads: int  # of PyTorch, on CPU

    @property
    def resources(self) -> dict[str, float]:
        """As Ray Train takes them."""
        return {"CPU": self.cpus} | ({"GPU": 1.0} if self.use_gpu else {})


def plan_workers(settings: TrainingSettings, capacity: Capacity) -> WorkerPlan:
    """Fit the workers into the cluster, with CPU left for reading data.

    Raises:
        SettingsError: the cluster is too small, or the batch cannot be shared out evenly.
    """
    workers = settings.workers
    if settings.batch_size % workers:
        raise SettingsError(
            f"setting `training.batch_size`: {settings.batch_size} cannot be shared evenly by"
            f" training.workers={workers}; expected a multiple"
        )
    if settings.batch_size // workers < 2:
        raise SettingsError(
            f"setting `training.batch_size`: {settings.batch_size} leaves fewer than 2 tiles for each of"
            f" training.workers={workers}"
        )
    use_gpu = settings.device == "cuda" or (settings.device == "auto" and capacity.gpus >= workers)
    if use_gpu and capacity.gpus < workers:
        raise SettingsError(
            f"setting `training.device`: cuda with training.workers={workers} needs {workers} GPUs,"
            f" the cluster has {capacity.gpus:g}"
        )
    fitting = (
        share
        for share in _SHARES
        if capacity.places(share, use_gpu) >= workers and capacity.keeps_a_cpu(workers, share)
    )
    cpus = next(fitting, None)
    if cpus is None:
        raise SettingsError(
            f"setting `training.workers`: {workers} workers and a CPU for reading data do not"
            f" fit into {capacity.cpus:g} CPUs on {len(capacity.nodes)} node(s)"
        )
    hosts = sum(node.cpus >= cpus and node.gpus >= use_gpu for node in capacity.nodes)
    together = -(-workers // hosts)  # on one node
    threads = max(1, int(max(node.cpus for node in capacity.nodes) / together))
    return WorkerPlan(workers, cpus, use_gpu, threads)
