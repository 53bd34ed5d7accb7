"""Which trial is chosen, and how its model becomes the champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from raysvq.decisions import fixed_decisions
from raysvq.errors import DataError
from raysvq.evaluation.leaderboard import FAILED, FINISHED, OVER_LIMIT, STOPPED, Trial, ranked, trial_of
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.network import build_network
from raysvq.settings import Settings, TuningSettings, parse_settings
from raysvq.tuning.publish import choose, publish
from raysvq.tuning.state import SweepState
from raysvq.tuning.trial_metrics import AU_PRO, IMAGE_AUROC, SYNTHETIC_AUROC, TILE_AUROC

Build = Callable[..., Settings]
TRIALS = 16


def _trial(number: int, *values: float, counts: tuple[int, int] = (40, 2), status: str = FINISHED) -> Trial:
    point = {"objective.eta": number / 10} if number else {}
    mean = sum(values) / len(values)
    return Trial(number, point, status, mean, values, images=counts)


def test_over_draws_the_defaults_are_kept_against_a_lead_that_luck_explains() -> None:
    defaults = _trial(0, 0.90, 0.95, 0.91)
    lucky, clear = _trial(1, 0.89, 0.99, 0.90), _trial(2, 0.96, 1.0, 0.97)
    taken, why = choose([lucky, defaults], IMAGE_AUROC)
    assert taken is defaults
    assert "trial 1 is ahead by 0.0067 over 3 splits, and luck alone may put one of 1 trials 0.0487" in why
    assert choose([clear, lucky, defaults], IMAGE_AUROC) == (clear, "")
    assert choose([defaults, lucky], IMAGE_AUROC) == (defaults, "")
    half = _trial(2, 0.94, 0.98, 0.94)
    assert choose([half, defaults], IMAGE_AUROC)[0] is half
    many = [_trial(3 + n, 0.90 + n / 100, 0.96 - n / 100, 0.91) for n in range(8)]
    assert choose([half, lucky, *many, defaults], IMAGE_AUROC)[0] is defaults, "among many one is lucky"


def test_with_one_draw_two_outliers_cannot_tell() -> None:
    trials = [_trial(7, 1.0), *(_trial(n, 0.9) for n in range(1, 7)), _trial(0, 0.85)]
    taken, why = choose(trials, IMAGE_AUROC)
    assert taken.number == 0
    assert why == (
        "the defaults are kept: trial 7 is ahead by 0.1500 with 2 validation outliers and 40 normal images,"
        " and luck alone may put one of 7 trials 0.4541 ahead"
    )


@pytest.mark.parametrize("outliers", [1, 2, 5, 30])
@pytest.mark.parametrize("shared", [0.0, 0.5])
@pytest.mark.parametrize("hard", [0.3, 1.5])
def test_of_trials_of_one_quality_the_defaults_are_kept_19_times_in_20(
    outliers: int, shared: float, hard: float
) -> None:
    draw = np.random.default_rng([outliers, int(10 * shared), int(10 * hard)])
    seeds = 400
    taken = sum(_taken(draw, 40, outliers, shared, [hard] * TRIALS) != 0 for _ in range(seeds))
    assert taken <= 0.05 * seeds


def test_a_better_trial_is_taken_where_there_are_outliers_enough() -> None:
    draw = np.random.default_rng(0)
    distances = [1.0] * (TRIALS - 1) + [3.0]
    assert sum(_taken(draw, 100, 50, 0.5, distances) == TRIALS - 1 for _ in range(100)) >= 95
    assert sum(_taken(draw, 100, 2, 0.5, distances) == TRIALS - 1 for _ in range(100)) <= 5


def _taken(
    draw: np.random.Generator, normals: int, outliers: int, shared: float, distances: list[float]
) -> int:
    """The number of the trial taken; all see the same images, each with an error of its own."""
    own = draw.normal(size=(len(distances), normals + outliers)) * np.sqrt(1 - shared)
    scores = own + draw.normal(size=normals + outliers) * np.sqrt(shared)
    anomalous = scores[:, normals:] + np.array(distances)[:, None]
    ahead = (anomalous[:, :, None] > scores[:, None, :normals]).mean((1, 2))
    trials = [_trial(n, float(value), counts=(normals, outliers)) for n, value in enumerate(ahead)]
    return choose(ranked(trials), IMAGE_AUROC)[0].number


@pytest.mark.parametrize("metric", [TILE_AUROC, AU_PRO, SYNTHETIC_AUROC])
def test_every_metric_has_its_luck(metric: str) -> None:
    few, many = (_trial(0, 0.7, counts=(100, count)) for count in (3, 100))
    assert choose([_trial(1, 0.95), few], metric)[0] is few
    taken, why = choose([_trial(1, 0.95), many], metric)
    assert (taken.number, why) == (1, "")


def test_masks_and_tiles_vary_more_than_images() -> None:
    defaults = _trial(0, 0.75, counts=(100, 30))
    trials = [_trial(1, 0.95), *(_trial(n, 0.7) for n in range(2, TRIALS)), defaults]
    assert choose(trials, IMAGE_AUROC)[0] is not defaults
    assert choose(trials, AU_PRO)[0] is defaults


def test_without_finished_defaults_the_best_is_taken() -> None:
    for status in (FAILED, OVER_LIMIT):
        best = _trial(3, 0.91)
        assert choose([best, _trial(0, 0.9, status=status)], IMAGE_AUROC) == (best, "")


def test_stopped_trials_are_no_rivals() -> None:
    defaults, stopped = _trial(0, 0.8), _trial(1, 0.99, status=STOPPED)
    assert choose(ranked([stopped, defaults]), IMAGE_AUROC) == (defaults, "")


def test_a_result_without_counts_prefers_nothing() -> None:
    result = {"value": 1.0, "values": [1.0], "curve": [], "seconds": 1.0, "error": "", "train_s": 1.0}
    best = trial_of(1, {"objective.eta": 0.5}, TuningSettings(), result, "")
    counted = trial_of(1, {}, TuningSettings(), result | {"images": [40, 2]}, "")
    assert (best.images, counted.images) == ((0, 0), (40, 2))
    defaults = replace(best, number=0, point={}, value=0.5, values=(0.5,))
    assert choose([best, defaults], IMAGE_AUROC)[0] is defaults


def _bundle(settings: Settings) -> Bundle:
    decisions = fixed_decisions(1.0, 1.0, "made up", "manual")
    return make_bundle(build_network(settings), settings, Reference({}, {}), decisions, {}, {"history": []})


@pytest.mark.parametrize("refit", [False, True], ids=["none was kept", "it learns from more images"])
def test_it_is_trained_with_the_settings_taken(
    small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: bool
) -> None:
    settings = small(objective={"eta": 0.7}, tuning={"refit": refit})
    state = SweepState(str(tmp_path / "state"))
    if refit:
        save_bundle(_bundle(settings), state.model_folder(5))
    trained: list[tuple[str, str]] = []

    def train(manifest: str, out: str, settings: Settings) -> None:
        trained.append((manifest, out))
        save_bundle(_bundle(settings), out)

    monkeypatch.setattr("raysvq.tuning.publish.train", train)
    before = small(tuning={"refit": refit})  # of a trial that was the best before
    publish("m.parquet", str(tmp_path), 4, before, state, {"CPU": 1}, lambda: None)
    trained.clear()
    held: list[Any] = []
    bundle = publish("m.parquet", str(tmp_path), 5, settings, state, {"CPU": 1}, lambda: held.append(1))
    assert trained == [("m.parquet", str(tmp_path / "model"))]
    assert bundle.settings.objective.eta == 0.7
    assert load_bundle(resolve(f"{tmp_path}@champion")).model_digest == bundle.model_digest
    assert held
    assert parse_settings(yaml.safe_load((tmp_path / "best.yaml").read_text())).objective.eta == 0.7
    publish("m.parquet", str(tmp_path), 5, settings, state, {"CPU": 1}, lambda: None)
    assert len(trained) == 1, "it is there"


def test_a_model_of_someone_else_is_not_replaced(small: Build, tmp_path: Path) -> None:
    theirs = _bundle(small())
    save_bundle(theirs, str(tmp_path / "model"))
    state = SweepState(str(tmp_path / "state"))
    with pytest.raises(DataError, match="model holds a model that this sweep did not make"):
        publish("m.parquet", str(tmp_path), 5, small(objective={"eta": 0.7}), state, {"CPU": 1}, lambda: None)
    assert load_bundle(str(tmp_path / "model")).model_digest == theirs.model_digest
