"""Who scores on which clusters, and what that asks Ray for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity, Node
from raysvq.scoring import workers
from raysvq.scoring.workers import Workers, find_workers
from raysvq.settings import RaySettings, ScoringSettings


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `find_workers` meet these machines; those that come later take what waits."""

    def build(*nodes: Node, later: tuple[Node, ...] = (), grows: bool = True) -> list[Workers]:
        waited: list[Workers] = []
        monkeypatch.setattr(workers, "connect", lambda _: Capacity(nodes))
        monkeypatch.setattr(workers, "find_capacity", lambda: Capacity(nodes + later))
        monkeypatch.setattr(workers, "can_grow", lambda: grows)
        monkeypatch.setattr(workers, "_wait_for", waited.append)
        return waited

    return build


def _found(**scoring: Any) -> Workers:
    return find_workers(ScoringSettings(**scoring), RaySettings())


@pytest.mark.parametrize(
    ("nodes", "kind"),
    [([Node(2)], "CPU"), ([Node(0), Node(4, 1)], "GPU"), ([Node(8), Node(8, 2)], "GPU")],
)
def test_gpus_that_are_up_score_and_cpus_where_there_are_none(
    cluster: Any, nodes: list[Node], kind: str
) -> None:
    assert not cluster(*nodes)
    assert _found().kind == kind


@pytest.mark.parametrize(("first", "kind"), [(Node(4), "CPU"), (Node(4, 1), "GPU")])
def test_of_an_empty_cluster_the_first_machine_decides(cluster: Any, first: Node, kind: str) -> None:
    waited = cluster(Node(0), later=(first,))
    assert _found(workers=3) == Workers(kind, 2 if kind == "GPU" else 1, 3)  # type: ignore[arg-type]
    assert [each.needs for each in waited] == [{"CPU": 1.0}]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_is_asked_for_is_not_waited_for_here(cluster: Any, device: str) -> None:
    waited = cluster(Node(0))
    assert _found(device=device).kind == device.upper()
    assert not waited


def test_gpus_are_not_used_where_cpus_are_asked_for(cluster: Any) -> None:
    cluster(Node(4, 1))
    assert _found(device="cpu") == Workers()


def test_a_machine_of_its_own_without_a_gpu_cannot_wait_for_one(cluster: Any) -> None:
    cluster(Node(2), grows=False)
    with pytest.raises(SettingsError, match=r"`scoring\.device`: found gpu, .* expected auto or cpu"):
        _found(device="gpu")


@pytest.mark.parametrize(
    ("found", "nodes", "places", "text"),
    [
        (Workers(), [Node(0), Node(2), Node(1.5)], 3, "3 CPU(s)"),
        (Workers(most=2), [Node(0), Node(4)], 2, "2 CPU(s)"),
        (Workers(), [Node(0)], 0, "CPUs, of which none is up yet"),
        (Workers("GPU", 2), [Node(0), Node(4, 1), Node(8), Node(8, 2)], 6, "3 GPU(s), in 6 process(es)"),
        (Workers("GPU", 4), [Node(2, 1)], 2, "1 GPU(s), in 2 process(es)"),
        (Workers("GPU", 2), [Node(1, 1), Node(1, 1), Node(0, 1)], 2, "2 GPU(s), in 2 process(es)"),
        (Workers("GPU", 2), [Node(8)], 0, "GPUs, of which none is up yet"),
    ],
)
def test_room_is_counted_machine_by_machine(
    found: Workers, nodes: list[Node], places: int, text: str
) -> None:
    capacity = Capacity(tuple(nodes))
    assert (found.places(capacity), found.on(capacity)) == (places, text)


@given(per_gpu=st.integers(1, 64))
def test_so_many_processes_fit_on_a_gpu_as_ray_counts(per_gpu: int) -> None:
    share = Workers("GPU", per_gpu).resources["num_gpus"]
    parts = round(share * 10_000)
    assert share * 10_000 == pytest.approx(parts, abs=1e-9)
    assert 10_000 // parts >= per_gpu
    assert per_gpu > 1 or share == 1
