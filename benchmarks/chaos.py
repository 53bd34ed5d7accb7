"""Scoring under attack: what is killed at a random moment loses and doubles nothing.

Run: python -m benchmarks.chaos [--runs 10] [--attacks driver worker node store] [--devices cpu gpu]
[--json FILE]. On a Ray cluster of two simulated nodes, the same images of an S3 server are scored again and
again, each time into a fresh folder there, and each time something is lost:

    driver   SIGKILL of the process that runs `raysvq score`; then the same command again
    worker   SIGKILL of a process at work
    node     SIGKILL of all processes of a node; another one joins two seconds later
    store    the S3 server is stopped for --outage seconds

A run counts when the attack fell before its end. Afterwards ids, scores and reasons of rejection must be
those of a run that nothing disturbed.

Half of the runs ask for GPUs. Each node counts one that is none: tasks wait for it and take it as on a real
one, and compute on the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from devtools.ray_token import start_over_with_token
from devtools.s3_server import BUCKET, S3Server, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.errors import RaysvqError
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results
from raysvq.runtime.cluster import connect
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.scoring.stream import TASK_NAME
from raysvq.scoring.workers import TORCH_NAMES
from raysvq.settings import load_settings

OVERRIDES = ["model.hidden=32", "scoring.batch_images=4", "scoring.precision=float32"]
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 128 * 2**20}
RESTARTS = 5  # of one run, after which it counts as failed
DEVICES = ("cpu", "gpu")
# A driver that computes on the CPU where Ray counts a GPU.
_DRIVER = """
from raysvq.scoring.workers import TORCH_NAMES
TORCH_NAMES["GPU"] = "cpu"
from raysvq.cli import main
main()
"""

Rows = dict[str, float | str]  # image id -> score, or the reason of its rejection


@dataclass
class Tally:
    """What became of the runs under one attack."""

    attack: str
    device: str = DEVICES[0]
    runs: int = 0
    restarts: int = 0  # times the command had to be given again
    lost: int = 0
    twice: int = 0
    other: int = 0  # images with another score or reason
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class World:
    """Images, a model, a cluster, and the rows of runs that nothing disturbed."""

    cluster: Cluster
    manifest: str
    model: str
    out: str  # parent of the score directories
    server: S3Server
    outage_s: float  # of an attack on the store
    undisturbed: dict[str, Rows] = field(default_factory=dict)  # by device
    seconds: float = 0.0
    spare: object = None  # the node that may be lost
    device: str = DEVICES[0]  # that scores

    @property
    def overrides(self) -> list[str]:
        """Settings of a run."""
        return [*OVERRIDES, f"ray.address={self.cluster.address}", f"scoring.device={self.device}"]

    def score(self, out: str) -> None:
        """Score in this process."""
        score(self.manifest, self.model, out, load_settings(None, self.overrides))

    def command(self, out: str) -> list[str]:
        """Score in a process of its own."""
        command = [sys.executable, "-c", _DRIVER, "score", self.manifest, "--model", self.model, "--out", out]
        return command + [part for setting in self.overrides for part in ("--set", setting)]


@contextmanager
def world(folder: Path, images: int, outage_s: float) -> Iterator[World]:
    """Everything a run needs, and the undisturbed one done."""
    settings = load_settings(None, OVERRIDES)
    source = write_sample(folder / "sample", normal=images - images // 10, anomalous=images // 10)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(s3_server(folder / "s3"))
        os.environ |= server.environment
        place = f"s3://{BUCKET}"
        upload(folder / "sample", f"{place}/sample")
        source = source.replace(str(folder), place)
        save_bundle(untrained_bundle(settings, threshold=1.0), f"{place}/model")
        build_index(source, f"{place}/manifest.parquet", settings.split)
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        stack.callback(cluster.shutdown)
        manifest, model = f"{place}/manifest.parquet", f"{place}/model"
        result = World(cluster, manifest, model, place, server, outage_s)
        result.spare = cluster.add_node(**NODE)
        connect(load_settings(None, result.overrides).ray)
        stack.callback(ray.shutdown)
        for result.device in DEVICES:
            result.score(f"{place}/warm-up-{result.device}")
            started = time.monotonic()
            result.score(f"{place}/undisturbed-{result.device}")
            result.seconds = time.monotonic() - started
            result.undisturbed[result.device] = _rows(f"{place}/undisturbed-{result.device}", Tally(""))
        yield result


def attack_driver(world: World, out: str, moment: float) -> tuple[bool, int]:
    """Returns whether the attack fell before the end, and how often the run was started again."""
    process = subprocess.Popen(world.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(moment + moment / world.seconds * _START_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    landed = process.wait() == -signal.SIGKILL
    return landed, _finish(world, out)


def attack_worker(world: World, out: str, moment: float) -> tuple[bool, int]:
    """See attack_driver."""
    return _during(world, out, moment, lambda: kill_worker(world.seconds))


def attack_node(world: World, out: str, moment: float) -> tuple[bool, int]:
    """See attack_driver."""

    def lose_and_join() -> bool:
        world.cluster.remove_node(world.spare, allow_graceful=False)
        time.sleep(2)
        world.spare = world.cluster.add_node(**NODE)
        return True

    return _during(world, out, moment, lose_and_join)


def attack_store(world: World, out: str, moment: float) -> tuple[bool, int]:
    """See attack_driver."""

    def stop_and_start() -> bool:
        world.server.stop()
        time.sleep(world.outage_s)
        world.server.start()
        return True

    return _during(world, out, moment, stop_and_start)


ATTACKS: dict[str, Callable[[World, str, float], tuple[bool, int]]] = {
    "driver": attack_driver,
    "worker": attack_worker,
    "node": attack_node,
    "store": attack_store,
}
_START_S = 6.0  # of a driver's own process, about


def run_attack(world: World, attack: str, device: str, runs: int) -> Tally:
    """Attack until so many runs were hit before their end."""
    tally = Tally(attack, device)
    world.device = device
    for number in range(10 * runs):
        if tally.runs == runs:
            break
        out = f"{world.out}/{attack}-{device}-{number}"
        started = time.monotonic()
        landed, restarts = ATTACKS[attack](world, out, random.uniform(0, world.seconds))
        if not landed:
            continue
        tally.runs += 1
        tally.restarts += restarts
        tally.seconds += time.monotonic() - started
        _compare(world, out, tally)
    return tally


def _during(world: World, out: str, moment: float, attack: Callable[[], bool]) -> tuple[bool, int]:
    """Score in a thread, and attack at that moment from this one, where nodes can be started."""
    landed = False
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(_finish, world, out)
        if not wait([scoring], timeout=moment).done:
            landed = attack()
        return landed, scoring.result()


def _finish(world: World, out: str) -> int:
    """Score, and again where the run ends with an error; returns how often again."""
    for restarts in range(RESTARTS):
        try:
            world.score(out)
            return restarts
        except RaysvqError as error:
            print(f"{out}: started again after: {error}", flush=True)
    return RESTARTS


def kill_worker(patience_s: float) -> bool:
    """SIGKILL a process that scores; False where none does for so long."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if workers := [process for process in psutil.Process().children(recursive=True) if _scores(process)]:
            random.choice(workers).kill()
            return True
    return False


def _scores(process: psutil.Process) -> bool:
    try:
        return TASK_NAME in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _rows(out: str, tally: Tally) -> Rows:
    scored = open_results(out, "scores").to_table(columns=["image_id", "image_score"]).to_pylist()
    rejected = open_results(out, "rejects").to_table(columns=["image_id", "reason"]).to_pylist()
    found: Rows = {row["image_id"]: row["image_score"] for row in scored}
    found |= {row["image_id"]: row["reason"] for row in rejected}
    tally.twice += len(scored) + len(rejected) - len(found)
    return found


def _compare(world: World, out: str, tally: Tally) -> None:
    try:
        found = _rows(out, tally)
    except RaysvqError as error:
        tally.failed.append(str(error))
        return
    wanted = world.undisturbed[tally.device]
    tally.lost += len(wanted.keys() - found.keys())
    tally.other += sum(wanted.get(name) != value for name, value in found.items())


def table(tallies: list[Tally]) -> str:
    """Print one line per attack."""
    heads = f"{'attack':<8}{'device':<8}{'runs':>6}{'restarts':>10}{'lost':>6}{'twice':>7}"
    lines = [f"{heads}{'other':>7}{'failed':>8}{'s a run':>9}"]
    lines += [
        f"{each.attack:<8}{each.device:<8}{each.runs:>6}{each.restarts:>10}{each.lost:>6}{each.twice:>7}{each.other:>7}"
        f"{len(each.failed):>8}{each.seconds / max(each.runs, 1):>9.1f}"
        for each in tallies
    ]
    return "\n".join(lines)


def main() -> None:
    """Attack, print the table, exit with 1 where anything was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="of each attack and device (default 10)")
    parser.add_argument("--images", type=int, default=160, help="scored in each run (default 160)")
    parser.add_argument(
        "--outage", type=float, default=10.0, help="seconds that the store is away (default 10)"
    )
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=DEVICES)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    start_over_with_token("benchmarks.chaos")
    TORCH_NAMES["GPU"] = "cpu"
    with (
        tempfile.TemporaryDirectory() as folder,
        world(Path(folder), arguments.images, arguments.outage) as place,
    ):
        tallies = [
            run_attack(place, attack, device, arguments.runs)
            for attack in arguments.attacks
            for device in arguments.devices
        ]
    print(table(tallies))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in tallies], indent=1) + "\n")
    sys.exit(int(any(each.lost or each.twice or each.other or each.failed for each in tallies)))


if __name__ == "__main__":
    main()
