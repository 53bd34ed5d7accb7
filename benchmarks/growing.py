"""A scoring job on a cluster that is empty at first: when nodes that join begin, and how busy they are.

Run: python -m benchmarks.growing [--nodes 3] [--cpus 1] [--images 4000] [--json FILE]. The nodes are
simulated on this machine, and join one after the other while the job waits. A place of a node, which is one
of its CPUs, is busy while a process on it has a work unit. That is looked up every 20 ms, from the node's
first unit to the last unit of all. Of that time `working` is what the workers' own clocks count, without
the start of processes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from benchmarks.hardware import processor
from benchmarks.scoring import make_images
from devtools.ray_token import start_over_with_token
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.runtime.cluster import connect
from raysvq.scoring.job import score
from raysvq.scoring.stream import TASK_NAME
from raysvq.settings import load_settings

OVERRIDES = ["model.hidden=32", "scoring.precision=float32", "scoring.batch_images=32"]
NODE = {"object_store_memory": 128 * 2**20}
LOOK_S = 0.02
LEAST_BUSY = 0.9


@dataclass
class Seen:
    """What was seen of a node; seconds are those of the job."""

    joined_s: float
    raylet: psutil.Process
    looks: list[tuple[float, int]] = field(default_factory=list)  # when, and its places at work

    def busy(self, places: int, until_s: float) -> float:
        """Share of its places at work, from its first unit on."""
        counts = [count for at, count in self.looks if self.first_s <= at <= until_s]
        return sum(min(count, places) for count in counts) / (places * max(len(counts), 1))

    @property
    def first_s(self) -> float:
        """When it had its first unit."""
        return next((at for at, count in self.looks if count), float("inf"))

    @property
    def last_s(self) -> float:
        """When it was last seen at work."""
        return max((at for at, count in self.looks if count), default=0.0)

    def look(self, now: float) -> None:
        """Count its processes that score."""
        self.looks.append((now, sum(map(_scores, self.raylet.children()))))


def _scores(process: psutil.Process) -> bool:
    try:
        return TASK_NAME in " ".join(process.cmdline())
    except psutil.Error:
        return False


def watch(cluster: Cluster, scoring: Future[Any], nodes: int, cpus: int) -> list[Seen]:
    """Add the nodes, and look at them until the job ends."""
    started = time.monotonic()
    seen: list[Seen] = []
    while not scoring.done():
        if len(seen) < nodes:
            node = cluster.add_node(num_cpus=cpus, **NODE)
            (raylet,) = node.all_processes["raylet"]
            seen.append(Seen(time.monotonic() - started, psutil.Process(raylet.process.pid)))
        for each in seen:
            each.look(time.monotonic() - started)
        time.sleep(LOOK_S)
    return seen


def main() -> None:
    """Measure, print a line per node, exit with 1 where one was idle for more than a tenth of the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3, help="that join (default 3)")
    parser.add_argument("--cpus", type=int, default=1, help="of each (default 1)")
    parser.add_argument("--images", type=int, default=4000, help="of 256 x 256 pixels (default 4000)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    start_over_with_token("benchmarks.growing")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, model, out = (str(folder / each) for each in ("manifest.parquet", "model", "scores"))
        make_images(folder / "images", arguments.images)
        settings = load_settings(None, OVERRIDES)
        build_index(str(folder / "images"), manifest, settings.split)
        save_bundle(untrained_bundle(settings, threshold=1.0), model)
        cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
        )
        settings = load_settings(None, [*OVERRIDES, f"ray.address={cluster.address}"])
        connect(settings.ray)
        with ThreadPoolExecutor(1) as pool:
            scoring = pool.submit(score, manifest, model, out, settings)
            seen = watch(cluster, scoring, arguments.nodes, arguments.cpus)
            summary = scoring.result()
        ray.shutdown()
        cluster.shutdown()
    last = max(each.last_s for each in seen)
    held_s = arguments.cpus * sum(last - each.first_s for each in seen)
    working = summary.spent.total() / held_s
    rows = [
        {"joined_s": each.joined_s, "first_unit_s": each.first_s, "busy": each.busy(arguments.cpus, last)}
        for each in seen
    ]
    print(f"{processor()}; {summary.scored} images; last unit after {last:.1f} s; {working:.2f} working")
    print(f"{'node':<6}{'joined, s':>11}{'first unit, s':>15}{'busy':>7}")
    for number, row in enumerate(rows, start=1):
        print(f"{number:<6}{row['joined_s']:>11.1f}{row['first_unit_s']:>15.1f}{row['busy']:>7.2f}")
    if arguments.json:
        record = {"hardware": processor(), "images": summary.scored, "last_unit_s": last, "working": working}
        arguments.json.write_text(json.dumps(record | {"nodes": rows}, indent=1) + "\n")
    sys.exit(int(any(row["busy"] < LEAST_BUSY for row in rows)))


if __name__ == "__main__":
    main()
