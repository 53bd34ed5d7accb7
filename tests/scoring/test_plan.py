"""How scoring actors are fitted into a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.cluster import Capacity, Node
from raysvq.errors import SettingsError
from raysvq.scoring.plan import ActorPlan, plan_actors


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus"),
    [
        ([Node(2)], 2, 0.5),
        ([Node(8)], 8, 0.75),
        ([Node(2), Node(2)], 4, 0.5),
        ([Node(0), Node(4), Node(4)], 8, 0.75),
        ([Node(1), Node(1)], 1, 1.0),
    ],
)
def test_an_actor_for_each_cpu_as_far_as_one_is_left(nodes: list[Node], actors: int, cpus: float) -> None:
    assert plan_actors(Capacity(tuple(nodes))) == ActorPlan(actors, cpus, False)


def test_an_actor_for_each_gpu() -> None:
    assert plan_actors(Capacity((Node(0), Node(4, 1), Node(8, 2)))) == ActorPlan(3, 1.0, True)


@pytest.mark.parametrize("nodes", [(), (Node(0),), (Node(1),), (Node(0.5), Node(0.5))])
def test_a_cluster_without_room_to_read_is_refused(nodes: tuple[Node, ...]) -> None:
    with pytest.raises(SettingsError, match="scoring needs one for an actor and a whole one"):
        plan_actors(Capacity(nodes))


@given(cpus=st.lists(st.integers(0, 6), min_size=1, max_size=5), data=st.data())
def test_reading_finds_a_whole_cpu_wherever_the_actors_stand(cpus: list[int], data: st.DataObject) -> None:
    try:
        plan = plan_actors(Capacity(tuple(Node(each) for each in cpus)))
    except SettingsError:
        assert sum(cpus) < 2
        return
    free = [float(each) for each in cpus]
    for _ in range(plan.actors):
        rooms = [place for place, left in enumerate(free) if left >= plan.cpus]
        free[data.draw(st.sampled_from(rooms))] -= plan.cpus
    assert max(free) >= 1
