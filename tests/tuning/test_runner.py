"""How many trials run at once, what is refused before any starts, and which models are kept meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster

from raysvq.errors import SettingsError, StorageError
from raysvq.evaluation.leaderboard import Point
from raysvq.runtime.cluster import Capacity, Node, connect
from raysvq.settings import RaySettings, Settings
from raysvq.tuning.early_stopping import LearningCurve
from raysvq.tuning.runner import _TrialLog, plan_trials, run_trials
from raysvq.tuning.search import TrialSearch
from raysvq.tuning.space import Space, parse_space
from raysvq.tuning.state import SweepState
from raysvq.tuning.trial import Sweep
from raysvq.tuning.trial_metrics import AU_PRO, IMAGE_AUROC

Build = Callable[..., Settings]


@pytest.mark.parametrize(
    ("nodes", "device", "slots"),
    [
        ([Node(2)], "auto", 2),
        ([Node(1), Node(1), Node(1)], "auto", 3),
        ([Node(0), Node(3.5), Node(2)], "auto", 5),  # halves on two machines are no CPU
        ([Node(16, 2), Node(8)], "auto", 2),
        ([Node(16, 2), Node(8)], "cpu", 24),
        ([Node(2, 4)], "cuda", 2),
    ],
)
def test_a_trial_takes_a_cpu_or_a_gpu_each(small: Build, nodes: list[Node], device: str, slots: int) -> None:
    chosen = [small(training={"device": device, "steps": steps}) for steps in (10, 20, 30)]
    assert plan_trials(chosen, Capacity(tuple(nodes)), IMAGE_AUROC).slots == slots


@pytest.mark.parametrize(
    ("nodes", "tuning", "slots", "gpus"),
    [
        ([Node(16, 2), Node(8)], {"trials_per_gpu": 3}, 6, 1 / 3),
        ([Node(4, 2)], {"trials_per_gpu": 4}, 4, 0.25),  # each takes a CPU, too
        ([Node(16, 2)], {"trials_per_gpu": 4, "max_concurrent_trials": 5}, 5, 0.25),
        ([Node(16, 2)], {"max_concurrent_trials": 5}, 2, 1.0),
    ],
)
def test_trials_share_a_gpu(
    small: Build, nodes: list[Node], tuning: dict[str, int], slots: int, gpus: float
) -> None:
    plan = plan_trials([small(tuning=tuning)], Capacity(tuple(nodes)), IMAGE_AUROC)
    assert (plan.slots, plan.resources) == (slots, {"CPU": 1.0, "GPU": gpus})


def test_trials_of_several_workers_do_not_share_a_gpu(small: Build) -> None:
    chosen = [small(training={"workers": 2}, tuning={"trials_per_gpu": 2})]
    with pytest.raises(SettingsError, match=r"`tuning.trials_per_gpu`: 2 with training.workers=2"):
        plan_trials(chosen, Capacity((Node(8, 2),)), IMAGE_AUROC)


def test_trials_of_several_workers_have_the_cluster_to_themselves(small: Build) -> None:
    chosen = [small(training={"workers": 2}), small(training={"workers": 3, "batch_size": 12})]
    assert plan_trials(chosen, Capacity((Node(4), Node(4))), IMAGE_AUROC).slots == 1


@pytest.mark.parametrize(
    ("training", "nodes", "metric", "problem"),
    [
        ([{"unlabelled": True}], [Node(2)], IMAGE_AUROC, r"`training.unlabelled`: trials train on labelled"),
        (
            [{"workers": 1}, {"workers": 2}],
            [Node(4)],
            IMAGE_AUROC,
            r"`training.workers`: some trials would have one worker, some several",
        ),
        ([{"workers": 2}], [Node(4)], AU_PRO, r"compared by image_auroc .*, found au_pro; expected 1 worker"),
        (
            [{"workers": 4}],
            [Node(1)],
            IMAGE_AUROC,
            r"4 workers and a CPU for reading .* do not fit into 1 CPUs",
        ),
        ([{"device": "cuda"}], [Node(8)], IMAGE_AUROC, r"`training.device`: cuda .* the cluster has 0"),
    ],
    ids=["unlabelled", "mixed", "metric", "too many workers", "no GPU"],
)
def test_what_cannot_run_is_refused_with_what_there_is(
    small: Build, training: list[dict[str, object]], nodes: list[Node], metric: str, problem: str
) -> None:
    chosen = [small(training=one) for one in training]
    with pytest.raises(SettingsError, match=problem):
        plan_trials(chosen, Capacity(tuple(nodes)), metric)


def test_of_models_those_of_the_defaults_and_of_the_best_stay(small: Build, tmp_path: Path) -> None:
    def ended(value: float, **more: float) -> dict[str, Any]:
        result = {"rung": 6, "value": value, "values": [value], "curve": [], "seconds": 1.0, "error": ""}
        return result | {"train_s": 1.0, **more}

    def models() -> list[int]:
        return sorted(int(path.name.removeprefix("model-")) for path in tmp_path.glob("model-*"))

    def end(number: int, result: dict[str, Any]) -> None:
        Path(state.model_folder(number)).mkdir()
        trial = SimpleNamespace(last_result=result, config={"number": number})
        log.on_trial_complete(0, [], trial)

    state, points = (
        SweepState(str(tmp_path)),
        [{}] + [{"objective.eta": 0.5 + number / 20} for number in range(1, 7)],
    )
    sweep = Sweep(Space(small(tuning={"max_image_ms": 9}), ()), "image_auroc", ["m"], state)
    for number in (1, 2):  # of a sweep that was killed before it could remove one
        Path(state.model_folder(number)).mkdir()
    log = _TrialLog(points, sweep, {1: ended(0.7), 2: ended(0.6)}, 7, Event())
    assert models() == [1]
    end(0, ended(0.5))
    end(3, ended(0.6))
    assert models() == [0, 1]
    end(4, ended(0.8))
    assert models() == [0, 4]
    end(5, ended(0.9, image_ms=10.0))
    assert models() == [0, 4], "over a limit"
    end(6, {name: value for name, value in ended(0.9).items() if name != "train_s"})
    assert models() == [0, 4], "stopped"
    assert state.result(6) is not None


def test_a_model_that_cannot_be_removed_ends_no_sweep(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("the store is away")

    monkeypatch.setattr(SweepState, "remove_model", refuse)
    sweep = Sweep(Space(small(), ()), "image_auroc", ["m"], SweepState(str(tmp_path)))
    log = _TrialLog([{}, {"objective.eta": 0.6}], sweep, {}, 2, Event())
    result = {"value": 0.5, "values": [0.5], "curve": [], "seconds": 1.0, "error": "", "train_s": 1.0}
    for number in range(2):
        log.on_trial_complete(0, [], SimpleNamespace(last_result=result, config={"number": number}))
    assert log.ended == 2


def test_a_space_that_is_used_up_ends_the_sweep_and_one_that_goes_on(
    small: Build, small_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(config: dict[str, Any], sweep: Sweep, catalog: Any) -> None:
        tune.report(LearningCurve(sweep.space.base).fail("") | {"train_s": 1.0})

    def run(points: list[Point], results: dict[int, dict[str, Any]]) -> list[Point]:
        search = TrialSearch(space, points, results, 5, sweep.state, lambda settings: None)
        assert run_trials(sweep, None, search, results, plan, 5) == {}
        return search.points

    monkeypatch.setattr("raysvq.tuning.runner.run_trial", trial)
    base = small(tuning={"trials": 5, "early_stopping": False})
    space = parse_space({"model.codebook_size": {"choice": [16, 32]}}, base)  # 16 is the base's
    sweep = Sweep(space, IMAGE_AUROC, ["m"], SweepState(str(tmp_path)))
    plan = plan_trials([base], Capacity((Node(2),)), IMAGE_AUROC)
    points = run([{}], {})
    assert points == sweep.state.points() == [{}, {"model.codebook_size": 32}]
    result = LearningCurve(base).fail("")
    assert run(points, {0: result, 1: result}) == points


@pytest.fixture
def one_gpu(no_cluster: None) -> Iterator[Capacity]:
    """A machine of two CPUs and a GPU, by what Ray counts."""
    head = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield connect(RaySettings(address=made.address))
    ray.shutdown()
    made.shutdown()


def test_two_trials_are_on_one_gpu_at_once(
    small: Build, one_gpu: Capacity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(config: dict[str, Any], sweep: Sweep, catalog: Any) -> None:
        (tmp_path / f"{config['number']} on GPU {ray.get_gpu_ids()}").touch()
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("*on GPU*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        met = len(list(tmp_path.glob("*on GPU*"))) == 2
        tune.report(LearningCurve(sweep.space.base).fail("" if met else "alone on the GPU"))

    monkeypatch.setattr("raysvq.tuning.runner.run_trial", meet)
    base = small(tuning={"trials": 2, "trials_per_gpu": 2, "early_stopping": False})
    space = parse_space({"objective.eta": {"uniform": [0.6, 0.9]}}, base)
    sweep = Sweep(space, IMAGE_AUROC, ["m"], SweepState(str(tmp_path / "state")))
    search = TrialSearch(space, [{}], {}, 2, sweep.state, lambda settings: None)
    plan = plan_trials([base], one_gpu, IMAGE_AUROC)
    assert run_trials(sweep, None, search, {}, plan, 2) == {}
    assert {file.name for file in tmp_path.glob("*on GPU*")} == {"0 on GPU [0]", "1 on GPU [0]"}
    results = [sweep.state.result(number) for number in range(2)]
    assert [result and result["error"] for result in results] == ["", ""]
