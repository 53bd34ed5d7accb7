"""How workers are fitted into a cluster, what is checked before, and which earlier run it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.data.index import build_index
from raysvq.data.manifest import write_manifest
from raysvq.errors import DataError, SettingsError
from raysvq.runtime.cluster import Capacity, Node
from raysvq.settings import Settings, SplitSettings, TrainingSettings
from raysvq.training.plan import WorkerPlan, plan_workers, require_trainable, run_name

Build = Callable[..., Settings]


def _capacity(cpus: float, gpus: int, nodes: int) -> Capacity:
    """Equal nodes, which share the GPUs as evenly as they can."""
    return Capacity(tuple(Node(cpus / nodes, (gpus + place) // nodes) for place in range(nodes)))


def _plan(capacity: Capacity, **training: Any) -> WorkerPlan:
    return plan_workers(TrainingSettings.model_validate(training), capacity)


@given(
    cpus=st.floats(1.2, 512),
    gpus=st.integers(0, 16),
    nodes=st.integers(1, 16),
    workers=st.integers(1, 64),
)
def test_data_always_keeps_its_cpu(cpus: float, gpus: int, nodes: int, workers: int) -> None:
    try:
        plan = _plan(_capacity(cpus, gpus, nodes), workers=workers, batch_size=4 * workers)
    except SettingsError:
        places = nodes * (int((cpus / nodes - 1) / 0.125) + 1) if cpus / nodes >= 1 else 0
        assert places <= workers or gpus >= workers
        return
    assert plan.cpus > 0
    assert plan.cpus * workers + 1 <= cpus + 1e-9
    assert plan.threads >= 1
    assert not plan.use_gpu or gpus >= workers


@pytest.mark.parametrize(
    ("cpus", "workers", "each"), [(2, 1, 1.0), (2, 2, 0.5), (8, 2, 3.0), (64, 2, 4.0), (3, 1, 2.0)]
)
def test_workers_share_what_is_left_evenly(cpus: float, workers: int, each: float) -> None:
    plan = _plan(_capacity(cpus, 0, 1), workers=workers)
    assert plan == WorkerPlan(
        workers, pytest.approx(each, abs=0.011), False, max(1, int(cpus / workers)), workers
    )
    assert plan.resources == {"CPU": plan.cpus}


def test_a_worker_asks_for_no_more_than_a_node_has() -> None:
    assert _plan(_capacity(4, 0, 2), workers=1).cpus == 1
    assert _plan(Capacity((Node(16), Node(2, 1))), workers=1).cpus == 1


def test_each_node_keeps_a_cpu_so_that_one_can_be_lost() -> None:
    assert _plan(_capacity(4, 0, 2), workers=1).cpus == 1
    assert _plan(_capacity(2, 0, 2), workers=1).cpus == 1, "where that cannot be, the cluster keeps one"


def test_threads_of_a_worker_stay_on_its_node() -> None:
    assert _plan(_capacity(32, 0, 4), workers=1).threads == 8
    assert _plan(Capacity((Node(0), Node(8))), workers=2).threads == 4


def test_the_cpu_left_for_data_is_whole() -> None:
    assert _plan(_capacity(4, 0, 2), workers=6, batch_size=24).cpus == 0.125
    assert _plan(_capacity(4, 0, 2), workers=10, batch_size=40).cpus == 0.125


@pytest.mark.parametrize(
    ("gpus", "device", "used"), [(2, "auto", True), (1, "auto", False), (2, "cpu", False), (2, "cuda", True)]
)
def test_every_worker_gets_a_gpu_or_none_does(gpus: int, device: str, used: bool) -> None:
    plan = _plan(_capacity(8, gpus, 1), workers=2, device=device)
    assert plan.use_gpu == used
    assert plan.resources.get("GPU") == (1.0 if used else None)


def test_too_few_gpus_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"`training\.device`: cuda .*workers=4 needs 4 GPUs.* has 1"):
        _plan(_capacity(16, 1, 1), workers=4, device="cuda")


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"`training\.batch_size`: 10 .*training\.workers=4.*a multiple"):
        _plan(_capacity(16, 0, 1), workers=4, batch_size=10)


def test_a_batch_too_small_for_its_workers_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"`training\.batch_size`: 4 leaves fewer than 2"):
        _plan(_capacity(16, 0, 1), workers=4, batch_size=4)


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 16)])
def test_too_many_workers_for_the_cpus_are_refused(cpus: float, workers: int) -> None:
    with pytest.raises(SettingsError, match=rf"`training\.workers`: {workers} workers .* {cpus} CPUs"):
        _plan(_capacity(cpus, 0, 1), workers=workers, batch_size=4 * workers)


def test_an_elastic_run_starts_with_what_there_is() -> None:
    plan = _plan(_capacity(8, 2, 2), workers=4, min_workers=1, batch_size=24)
    assert plan.use_gpu
    assert plan.number == (1, 4)
    assert _plan(_capacity(8, 0, 1), workers=2).number == 2


@given(cpus=st.integers(1, 32), gpus=st.integers(0, 8), nodes=st.integers(1, 6), least=st.integers(1, 2))
def test_an_elastic_run_leaves_a_cpu_on_whatever_node_stays(
    cpus: int, gpus: int, nodes: int, least: int
) -> None:
    capacity = _capacity(float(cpus * nodes), gpus, nodes)
    try:
        plan = _plan(capacity, workers=3, min_workers=least, batch_size=36)
    except SettingsError:
        assert cpus == 1
        return
    for node in capacity.nodes:
        held = min(3, int(node.cpus / plan.cpus), int(node.gpus) if plan.use_gpu else 3)
        assert not held or node.cpus - held * plan.cpus >= 1


def test_every_number_of_workers_must_share_the_batch() -> None:
    match = r"`training\.batch_size`: 128 .*training\.min_workers=2 to training\.workers=4; .* multiple of 12"
    with pytest.raises(SettingsError, match=match):
        _plan(_capacity(64, 0, 4), workers=4, min_workers=2, batch_size=128)


def test_more_workers_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(ValueError, match="min_workers=3 is more than workers=2"):
        TrainingSettings(workers=2, min_workers=3)


def _manifest(path: Path, **changes: Any) -> str:
    fields = {"size_bytes": 9, "etag": None, "mtime": None, "label": "normal", "mask_uri": None}
    fields |= {"group": None, "defect_type": None, "captured_at": None, "meta": []}
    rows = [
        {"image_id": f"{number:032x}", "uri": f"/img/{number}.png", "split": split} | fields
        for number, split in enumerate(["train", "train", "validation", "test"])
    ]
    rows[0] |= changes
    write_manifest(rows, str(path))
    return str(path)


def test_the_same_data_and_settings_go_on_with_the_same_run(small: Build, tmp_path: Path) -> None:
    first = run_name(_manifest(tmp_path / "a.parquet"), small())
    assert run_name(_manifest(tmp_path / "b.parquet"), small()) == first
    assert run_name(_manifest(tmp_path / "b.parquet"), small(training={"seed": 1})) != first
    cluster = small(training={"workers": 2, "min_workers": 1, "max_failures": 9}, ray={"cpus": 3})
    assert run_name(_manifest(tmp_path / "b.parquet"), cluster) == first


@pytest.mark.parametrize(
    "change",
    [{"split": "test"}, {"label": "anomalous"}, {"size_bytes": 10}, {"mask_uri": "/m.png"}],
    ids=lambda change: next(iter(change)),
)
def test_other_data_start_anew(small: Build, tmp_path: Path, change: dict[str, Any]) -> None:
    before = run_name(_manifest(tmp_path / "a.parquet"), small())
    assert run_name(_manifest(tmp_path / "b.parquet", **change), small()) != before


def test_an_image_that_is_listed_twice_does_not_train_twice(small: Build, tmp_path: Path) -> None:
    manifest = _manifest(tmp_path / "a.parquet", image_id=f"{1:032x}")
    with pytest.raises(DataError, match=r"1 images stand in the manifest more than once, .*\(2 times\)"):
        require_trainable(manifest, small())


@pytest.mark.parametrize("policy", ["paper", "min_recall", "cost"])
def test_a_policy_without_outliers_to_weigh_is_refused_before_training(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr("raysvq.training.plan.require_fitting", lambda uris, tiles: None)
    monkeypatch.setattr("raysvq.training.plan.hint_at_depth", lambda uris, tiles: "")
    costs = {"miss_cost": 9, "false_alarm_cost": 1, "defect_rate": 0.1}
    manifest = _manifest(tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=rf"`decision\.policy`: {policy} weighs .* no anomalous ones in its vali"
    ):
        require_trainable(manifest, small(decision={"policy": policy} | costs))
    require_trainable(manifest, small())


@pytest.mark.parametrize(
    ("form", "label", "warned"),
    [("negation", "anomalous", True), ("negation", "normal", False), ("hinge", "anomalous", False)],
)
def test_the_unbounded_form_is_warned_of_where_outliers_take_part(
    small: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    label: str,
    warned: bool,
) -> None:
    monkeypatch.setattr("raysvq.training.plan.require_fitting", lambda uris, tiles: None)
    monkeypatch.setattr("raysvq.training.plan.hint_at_depth", lambda uris, tiles: "")
    manifest = _manifest(tmp_path / "a.parquet", label=label, mask_uri="/m.png")
    require_trainable(manifest, small(objective={"form": form}))
    assert ("objective.form=negation" in capsys.readouterr().err) == warned


def test_a_group_that_no_image_has_is_refused_before_training(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysvq.training.plan.require_fitting", lambda uris, tiles: None)
    monkeypatch.setattr("raysvq.training.plan.hint_at_depth", lambda uris, tiles: "")
    manifest = _manifest(tmp_path / "a.parquet", meta=[("camera", "left")])
    require_trainable(manifest, small(decision={"group_by": "camera"}))
    for missing in ("group", "line"):
        with pytest.raises(DataError, match=f"`decision.group_by`: no image of the manifest has '{missing}'"):
            require_trainable(manifest, small(decision={"group_by": missing}))


@pytest.fixture
def set_of_images(tmp_path: Path) -> str:
    """Eight normal images, in train and validation."""
    for number in range(8):
        path = tmp_path / f"images/train/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8))
    made = str(tmp_path / "set.parquet")
    build_index(str(tmp_path / "images"), made, SplitSettings(validation_fraction=0.4))
    return made


WHOLE = {"tiles": {"mode": "whole", "size": 64}, "model": {"encoder": "features"}}


def _folds(manifest: str, settings: Settings) -> int:
    return int(require_trainable(manifest, settings)[0]["folds"])


@pytest.mark.parametrize(
    ("changes", "folds"),
    [
        ({}, 5),
        ({"decision": {"folds": 3}}, 3),
        ({"decision": {"folds": 0}}, 0),
        ({"tiles": {"mode": "tiles", "size": 64}}, 0),
        ({"model": {"encoder": "pixels"}}, 0),
        ({"training": {"unlabelled": True}}, 0),
    ],
)
def test_folds_come_by_themselves_where_they_cost_seconds(
    small: Build, set_of_images: str, changes: dict[str, Any], folds: int
) -> None:
    assert _folds(set_of_images, small(**(WHOLE | changes))) == folds


def test_many_images_need_no_folds(small: Build, set_of_images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysvq.training.plan._MAX_AUTOMATIC", 5)
    assert _folds(set_of_images, small(**WHOLE)) == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tiles": {"mode": "tiles", "size": 64}}, r".*tiles\.mode=whole.*found .*tiles\.mode=tiles"),
        ({"model": {"encoder": "pixels"}}, r"model\.encoder=features.*found model\.encoder=pixels"),
        ({"training": {"patience": 2}}, r"training\.patience unset.*found 2"),
        ({"training": {"unlabelled": True}}, r"training\.unlabelled=false"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    small: Build, set_of_images: str, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingsError, match=rf"decision\.folds`: 4 folds need {named}"):
        require_trainable(set_of_images, small(**(WHOLE | changes | {"decision": {"folds": 4}})))


def test_with_folds_both_splits_are_learnt_from(small: Build, set_of_images: str) -> None:
    with_folds, images = require_trainable(set_of_images, small(**WHOLE))
    without, validating = require_trainable(set_of_images, small(**WHOLE, decision={"folds": 0}))
    assert with_folds["normals"] == without["normals"] + len(validating) == 8
    assert len(images) == 8


def test_another_policy_goes_on_with_the_same_run_and_other_folds_do_not(
    small: Build, tmp_path: Path
) -> None:
    manifest = _manifest(tmp_path / "a.parquet")
    first = run_name(manifest, small())
    assert run_name(manifest, small(decision={"max_false_alarm_rate": 0.1, "confidence": 0.9})) == first
    assert run_name(manifest, small(decision={"folds": 3})) != first
    assert run_name(manifest, small(decision={"group_by": "camera"})) != first


def test_a_stem_that_is_not_there_is_refused_before_training(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysvq.training.plan.require_fitting", lambda uris, tiles: None)
    monkeypatch.setattr("raysvq.training.plan.hint_at_depth", lambda uris, tiles: "")
    manifest, weights = _manifest(tmp_path / "a.parquet"), {"encoder": "features", "stem_weights": "/no/w"}
    for model, problem in (({"encoder": "features", "stem": "/no/stem"}, "stem"), (weights, "stem_weights")):
        with pytest.raises(SettingsError, match=rf"`model\.{problem}`: /no/.* cannot be read"):
            require_trainable(manifest, small(model=model))
