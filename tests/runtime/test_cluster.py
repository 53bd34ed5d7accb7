"""What a cluster has to offer, and why there may be none."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import _LONGEST_PLACE, Capacity, Node, connect, ray_folder
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


def _folder(tmp_path: Path, name: str) -> str:
    (tmp_path / name).mkdir()
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("l" * 80, "is too long for Ray's sockets"),
        ("it's", "has characters that Ray's processes do not take"),
        ('"quoted"', "has characters"),
        ("[1]", "has characters"),
        ("a b", "has characters"),
        ("site=north", "has characters"),
        ("größe", "has characters"),
    ],
)
def test_ray_keeps_its_files_elsewhere_where_tmpdir_does_not_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    problem: str,
) -> None:
    monkeypatch.setattr("raysvq.runtime.cluster._LONGEST_PLACE", len(str(tmp_path)) + 40)
    place = _folder(tmp_path, name)
    assert ray_folder({"TMPDIR": place}) == "/tmp/ray"
    said = capsys.readouterr().out
    assert said.startswith(f"TMPDIR={place!r} {problem}")
    assert said.endswith(": Ray keeps its own files in /tmp/ray\n")
    with pytest.raises(SettingsError, match=rf"RAY_TMPDIR=.* {problem}.*; set RAY_TMPDIR to a folder"):
        ray_folder({"RAY_TMPDIR": place, "TMPDIR": "/tmp"})


@pytest.mark.parametrize("place", ["/no/such/folder", "relative", ""])
def test_a_tmpdir_that_is_none_is_said(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ray_folder({"TMPDIR": place}) == "/tmp/ray"
    assert f"TMPDIR={place!r} is no" in capsys.readouterr().out


def test_a_fitting_tmpdir_is_rays_own_affair() -> None:
    assert ray_folder({"TMPDIR": "/tmp"}) is None
    assert ray_folder({}) is None


def test_the_longest_tmpdir_leaves_room_for_a_socket() -> None:
    assert 30 < _LONGEST_PLACE < 40
