"""Machines that leave a cluster in the middle of a training or a sweep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raysvq.data.index import build_index
from raysvq.evaluation.leaderboard import FINISHED
from raysvq.runtime.cluster import connect
from raysvq.sample import write_sample
from raysvq.settings import RaySettings, load_settings, load_sweep
from raysvq.training.ray_trainer import train
from raysvq.tuning.sweep import sweep
from tests.nodes import NODE, WATCHFUL
from tests.sweeps import CONFIG, TRIALS, records, wait_for


@pytest.fixture(scope="module")
def cluster(no_cluster: None) -> Iterator[Cluster]:
    head = {**NODE, "include_dashboard": False, "_system_config": WATCHFUL}
    made = Cluster(initialize_head=True, head_node_args=head)
    connect(RaySettings(address=made.address))  # before other nodes join: the driver belongs to the head
    yield made
    ray.shutdown()
    made.shutdown()


def _lose(
    cluster: Cluster, node: object, moment: Callable[[], object], lost: list[object]
) -> threading.Thread:
    """Kill a node, once the moment has come."""

    def wait_and_kill() -> None:
        wait_for("the moment to lose a node", moment)
        cluster.remove_node(node, allow_graceful=False)
        lost.append(node)

    killer = threading.Thread(target=wait_and_kill)
    killer.start()
    return killer


def test_training_goes_on_where_there_is_still_room(cluster: Cluster, tmp_path: Path) -> None:
    spare = cluster.add_node(**NODE)
    settings = load_settings(
        None,
        [
            "split.outliers=6",
            "tiles.size=32",
            "tiles.anomalous_fraction=0.01",
            "model.hidden=16",
            "model.codebook_size=32",
            "model.embedding_dim=8",
            "training.workers=2",
            "training.min_workers=1",
            "training.steps=120",
            "training.batch_size=16",
            "training.validate_every=20",
        ],
    )
    manifest = str(tmp_path / "manifest.parquet")
    build_index(write_sample(tmp_path / "sample", normal=24, anomalous=10), manifest, settings.split)
    out = tmp_path / "model"
    lost: list[object] = []
    killer = _lose(cluster, spare, lambda: len(list(out.glob("_training/*/checkpoint_*"))) >= 2, lost)
    bundle = train(manifest, str(out), settings)
    killer.join()
    assert lost == [spare]
    history = bundle.history["history"]
    assert history[0]["workers"] == 2
    assert [row["step"] for row in history] == list(range(20, 121, 20))


def test_a_sweep_loses_no_trial_that_has_ended(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = cluster.add_node(**NODE)
    (tmp_path / "sweep.yaml").write_text(CONFIG)
    settings, search = load_sweep(tmp_path / "sweep.yaml", ["training.steps=80"])
    manifest, out = str(tmp_path / "manifest.parquet"), tmp_path / "out"
    build_index(write_sample(tmp_path / "sample", normal=24, anomalous=14), manifest, settings.split)
    lost: list[object] = []
    before: dict[str, int] = {}
    at_the_end: dict[str, int] = {}

    def one_has_ended() -> bool:
        before.update(records(out))
        return bool(before)

    monkeypatch.setattr("raysvq.tuning.sweep.write_leaderboard", lambda *_: at_the_end.update(records(out)))
    killer = _lose(cluster, spare, one_has_ended, lost)
    found = sweep(manifest, str(out), settings, search)
    killer.join()
    assert lost == [spare]
    assert sorted(trial.number for trial in found.board.trials) == list(range(TRIALS))
    assert {trial.status for trial in found.board.trials} == {FINISHED}
    assert len(at_the_end) == TRIALS
    assert {name: at for name, at in at_the_end.items() if name in before} == before
