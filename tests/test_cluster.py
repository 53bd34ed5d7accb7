"""What a cluster has to offer, and why there may be none."""

from __future__ import annotations

import pytest
import ray

from raysvq.cluster import Capacity, Node, connect
from raysvq.errors import SettingsError
from raysvq.settings import RaySettings

pytestmark = pytest.mark.usefixtures("no_cluster")


def test_ray_client_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"`ray.address`: ray://head:10001 is Ray Client"):
        connect(RaySettings(address="ray://head:10001"))


def test_an_object_store_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(SettingsError, match=r"`ray\.object_store_mib`: 99999999 does not fit this machine"):
        connect(RaySettings(object_store_mib=99_999_999))
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("nodes", "count", "cpus", "kept"),
    [
        ([Node(2)], 2, 0.5, True),
        ([Node(2)], 1, 1.5, False),
        ([Node(2), Node(2)], 4, 0.75, False),  # half a CPU on each
        ([Node(2), Node(2)], 3, 0.75, True),
        ([Node(4), Node(0.5)], 6, 0.5, True),
        ([Node(0.5), Node(0.5)], 1, 0.25, False),
    ],
)
def test_a_cpu_is_kept_only_where_it_is_whole(nodes: list[Node], count: int, cpus: float, kept: bool) -> None:
    assert Capacity(tuple(nodes)).keeps_a_cpu(count, cpus) == kept


def test_places_take_a_gpu_each_where_one_is_asked_for() -> None:
    capacity = Capacity((Node(4, 1), Node(2, 4), Node(8)))
    assert capacity.places(1.0, use_gpu=False) == 14
    assert capacity.places(1.0, use_gpu=True) == 3
