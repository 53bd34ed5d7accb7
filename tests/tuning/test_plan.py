"""How many trials run at once, and what is refused before any starts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raysvq.errors import SettingsError
from raysvq.runtime.cluster import Capacity, Node
from raysvq.settings import Settings
from raysvq.tuning.judging import AU_PRO, IMAGE_AUROC
from raysvq.tuning.plan import plan_trials

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
    assert plan_trials(chosen, Capacity(tuple(nodes)), IMAGE_AUROC) == slots


def test_trials_of_several_workers_have_the_cluster_to_themselves(small: Build) -> None:
    chosen = [small(training={"workers": 2}), small(training={"workers": 3, "batch_size": 12})]
    assert plan_trials(chosen, Capacity((Node(4), Node(4))), IMAGE_AUROC) == 1


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
        ([{"workers": 2}], [Node(4)], AU_PRO, r"judged by image_auroc .*, found au_pro; expected 1 worker"),
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
