"""How a cluster's machines share the work of scoring; refuses what could never start."""

from __future__ import annotations

from dataclasses import dataclass

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity

FEWEST, USUAL, MOST = 16, 128, 4096  # images of a work unit
_PARTS = (0.75, 0.5, 0.25, 0.125)  # of a CPU, where GPUs have not one each
LONGEST = 32  # units of a task: what a node that joins has to wait for, or one that is lost may hold
UNITS = 4000  # of a large run: so many receipts, and files of each kind


@dataclass(frozen=True)
class WorkPlan:
    """Who scores: an actor for each GPU, or a task for each CPU."""

    workers: int
    cpus: float  # of each
    use_gpu: bool

    @property
    def resources(self) -> dict[str, float]:
        """Of one worker, as Ray asks for them."""
        return {"num_cpus": self.cpus} | ({"num_gpus": 1} if self.use_gpu else {})

    @property
    def device(self) -> str:
        """As PyTorch calls it."""
        return "cuda" if self.use_gpu else "cpu"

    @property
    def name(self) -> str:
        """As people call it."""
        return "GPU" if self.use_gpu else "CPU"


def plan_work(capacity: Capacity) -> WorkPlan:
    """GPUs where there are some, each with its share of its machine's CPUs to decode with; else CPUs.

    Actors on GPUs leave a CPU free for the tasks that feed them. On CPUs nothing need be kept free:
    tasks take whatever room there is at any time, and what a lost node held is done again by the others.

    Raises:
        SettingsError: the cluster is too small.
    """
    gpus = int(capacity.gpus)
    if not gpus and capacity.cpus >= 1:
        return WorkPlan(int(capacity.cpus), 1.0, False)
    shares = [int(node.cpus / node.gpus) for node in capacity.nodes if node.gpus >= 1]
    for cpus in (*range(min(shares, default=0), 0, -1), *_PARTS):
        if gpus and capacity.places(cpus, True) >= gpus and capacity.keeps_a_cpu(gpus, cpus):
            return WorkPlan(gpus, cpus, True)
    raise SettingsError(
        f"the cluster has {capacity.cpus:g} CPUs and {gpus} GPUs on {len(capacity.nodes)} node(s); scoring"
        " needs one CPU, and beside GPUs some CPU for each and a whole one to feed them: wait until its"
        " workers are up, or raise ray.cpus"
    )


def unit_images(images: int, asked: int | None) -> int:
    """Images of a work unit: few enough to share out a small run, files large enough for a large one."""
    if asked is not None:
        return asked
    even = min(max(images // 64, FEWEST), USUAL)
    return min(max(even, -(-images // UNITS)), MOST)


def share_out(units: int, workers: int) -> list[range]:
    """Work units in parts, one a task: long ones first, for a task costs as much as scoring some dozens
    of images; shorter ones towards the end, so that all workers end at about the same time.
    """
    parts, start = [], 0
    while start < units:
        length = min(-(-5 * (units - start) // (6 * workers)), LONGEST)
        parts.append(range(start, start + length))
        start += length
    return parts
