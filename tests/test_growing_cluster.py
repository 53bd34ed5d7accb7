"""A cluster that is empty when scoring starts, grows, and loses its first node."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster

from devtools.hanging_images import jpeg, python_path, until
from raysvq.errors import ScoringError
from raysvq.runtime.cluster import connect
from raysvq.scoring import workers
from raysvq.scoring.stream import TASK_NAME
from raysvq.settings import RaySettings
from tests.nodes import NODE, WATCHFUL
from tests.plates import Plates, make_plates
from tests.sweeps import wait_for

IMAGES = 12


@pytest.fixture(scope="module")
def cluster(no_cluster: None) -> Iterator[Cluster]:
    """A head that runs no task."""
    head = NODE | {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        made = Cluster(initialize_head=True, head_node_args=head)
        connect(RaySettings(address=made.address))
        yield made
        ray.shutdown()
        made.shutdown()


def _at_work(node: Any) -> int:
    """Processes of a node that score."""
    (raylet,) = node.all_processes["raylet"]
    return sum(TASK_NAME in _title(each) for each in psutil.Process(raylet.process.pid).children(True))


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _asked_for(cluster: Cluster) -> list[tuple[dict[str, float], int]]:
    """What an autoscaler would be asked for: resources of a task, and of how many."""
    state = get_cluster_resource_state(GcsClient(cluster.gcs_address))
    return [(dict(each.request.resources_bundle), each.count) for each in state.pending_resource_requests]


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_scoring_waits_for_a_node_takes_those_that_join_and_outlives_the_first(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    monkeypatch.setitem(workers.TORCH_NAMES, "GPU", "cpu")  # nodes count GPUs that are none
    go = tmp_path / "go"
    images = {f"plate-{n:02d}.jpg": jpeg(n, until(go)) for n in range(IMAGES)}
    plates = Plates(str(tmp_path), images)
    asked: dict[str, Any] = {"CPU": {}, "GPU": {"device": "gpu"}}[kind]
    node = NODE | ({"num_gpus": 1} if kind == "GPU" else {})
    needs = {"CPU": "1 CPU", "GPU": "1 CPU and 0.5 GPU"}[kind]
    said = ""

    def has_said(text: str) -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return text in said

    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(plates.score, batch_images=1, **asked)
        wait_for("a word of what is missing", lambda: has_said(f"waiting for a machine with {needs}: the"))
        first = cluster.add_node(**node)
        wait_for("both places of the first node", lambda: _at_work(first) == 2)
        task = {"CPU": 1.0} | ({"GPU": 0.5} if kind == "GPU" else {})
        wait_for("a request for the others", lambda: _asked_for(cluster) == [(task, IMAGES - 2)])
        second = cluster.add_node(**node)
        wait_for("both places of the second node", lambda: _at_work(second) == 2)
        cluster.remove_node(first, allow_graceful=False)
        assert not scoring.done()
        go.touch()
        summary = scoring.result()
    cluster.remove_node(second)
    assert has_said("scoring 12 images")
    assert summary.scored == IMAGES
    assert {name: row["image_score"] for name, row in plates.rows().items()} == pytest.approx(
        plates.direct(), rel=1e-5
    )


def test_a_gpu_that_pytorch_does_not_find_ends_the_run_by_name(cluster: Cluster, tmp_path: Path) -> None:
    node = cluster.add_node(**NODE, num_gpus=1)
    plates = make_plates(str(tmp_path), 2)
    with pytest.raises(ScoringError, match=r"PyTorch .* finds no GPU on .*, where Ray has one: expected"):
        plates.score()
    cluster.remove_node(node)
