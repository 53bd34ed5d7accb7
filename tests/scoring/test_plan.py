"""How the work of scoring is shared out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.decisions import fixed_decisions
from raysvq.errors import SettingsError
from raysvq.model.bundle import save_bundle
from raysvq.model.engines import Machine
from raysvq.runtime.cluster import Capacity, Node
from raysvq.scoring.plan import Workers, _resolve, line_up, plan_workers, share_out, unit_images
from raysvq.scoring.request import open_request
from raysvq.settings import DecisionSettings, ScoringSettings
from tests.plates import make_plates


@pytest.mark.parametrize(
    ("nodes", "tasks"), [([Node(2)], 2), ([Node(1)], 1), ([Node(2), Node(2)], 4), ([Node(0), Node(4)], 4)]
)
def test_a_task_for_each_cpu(nodes: list[Node], tasks: int) -> None:
    assert plan_workers(Capacity(tuple(nodes))) == Workers(tasks, 1.0, False)


@pytest.mark.parametrize(
    ("nodes", "plan"),
    [
        ([Node(0), Node(4, 1), Node(8, 2)], Workers(3, 3, True)),
        ([Node(4), Node(8, 1)], Workers(1, 8, True)),
        ([Node(8, 1)], Workers(1, 7, True)),
        ([Node(2, 2)], Workers(2, 0.5, True)),
    ],
)
def test_an_actor_for_each_gpu_with_its_share_of_cpus(nodes: list[Node], plan: Workers) -> None:
    assert plan_workers(Capacity(tuple(nodes))) == plan


@pytest.mark.parametrize(
    "nodes", [(), (Node(0),), (Node(0.5), Node(0.4)), (Node(1, 1),), (Node(0, 1), Node(0.5))]
)
def test_a_cluster_without_room_is_refused(nodes: tuple[Node, ...]) -> None:
    with pytest.raises(SettingsError, match=r"the cluster has [\d.]+ CPUs and \d GPUs on \d node"):
        plan_workers(Capacity(nodes))


@given(images=st.integers(1, 10**9))
def test_units_share_out_small_runs_and_keep_large_ones_in_few_files(images: int) -> None:
    size = unit_images(images, None)
    units = -(-images // size)
    assert 16 <= size <= 4096
    assert units <= max(4000, images / 4096 + 1)
    assert units >= min(64, images // 16)


def test_the_setting_decides() -> None:
    assert unit_images(10**6, 7) == 7


@given(units=st.integers(1, 5000), workers=st.integers(1, 300))
def test_every_unit_is_in_one_part_and_parts_get_shorter(units: int, workers: int) -> None:
    parts = share_out(units, workers)
    assert [unit for part in parts for unit in part] == list(range(units))
    lengths = [len(part) for part in parts]
    assert lengths == sorted(lengths, reverse=True)
    assert len(parts) >= min(units, workers)
    assert lengths[0] <= 32


def test_bfloat16_is_refused_to_a_model_that_has_none(tmp_path: Path) -> None:
    bundle = make_plates(str(tmp_path), 2).bundle
    machine = partial(Machine, "cpu", has_openvino=False, has_bfloat16=True)
    assert _resolve(bundle, ScoringSettings(precision="bfloat16"), machine).precision == "bfloat16"
    bundle.model.has_bfloat16 = False
    assert _resolve(bundle, ScoringSettings(), machine).precision == "float32"
    with pytest.raises(
        SettingsError, match=r"`scoring\.precision`: .*found bfloat16, expected float32 or auto"
    ):
        _resolve(bundle, ScoringSettings(precision="bfloat16"), machine)


def test_small_runs_come_first_and_those_of_a_model_together() -> None:
    units = [40, 2, 0, 1, 3, 30, 1]
    models = ["a", "a", "a", "b", "b", "b", "a"]
    assert line_up(units, models) == [6, 1, 3, 4, 0, 5]


def test_decisions_fitted_anew_need_no_new_folder(tmp_path: Path) -> None:
    plates = make_plates(str(tmp_path), 2)
    settings = plates.settings()
    before = open_request(plates.manifest, plates.model, plates.out, settings).digests()
    decision = DecisionSettings(max_false_alarm_rate=0.2)
    fitted = fixed_decisions(9.0, 0.5, "fitted anew", "manual")
    plates.bundle = replace(
        plates.bundle,
        settings=plates.bundle.settings.model_copy(update={"decision": decision}),
        decisions=fitted,
    )
    save_bundle(plates.bundle, plates.model)
    again = open_request(plates.manifest, plates.model, plates.out, settings)
    assert again.bundle.decisions == fitted
    assert again.digests() == before
