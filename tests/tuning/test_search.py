"""Samplers: the points drawn before a sweep starts, and what is asked of Optuna as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.search import Searcher

from raysvq.errors import SettingsError
from raysvq.evaluation.leaderboard import Point
from raysvq.settings import Settings, TuningSettings, load_settings, load_sweep
from raysvq.tuning.search import TrialSearch, first_points
from raysvq.tuning.space import Space, parse_space
from raysvq.tuning.state import SweepState
from tests.sweeps import SEARCH

ETA = {"objective.eta": {"uniform": [0.3, 0.9]}}


def _space(search: dict[str, Any] = SEARCH, **tuning: Any) -> Space:
    base = load_settings("features").model_copy(update={"tuning": TuningSettings(**tuning)})
    return parse_space(search, base)


def _points(
    trials: int, sampler: str, search: dict[str, Any] = SEARCH, seed: int = 0, **tuning: Any
) -> list[Point]:
    space = _space(search, trials=trials, sampler=sampler, seed=seed, **tuning)
    return first_points(space, space.base.tuning)


class _Driver:
    """Runs trials one after the other as Ray Tune does; the best is where eta is 0.7."""

    def __init__(
        self, folder: Path, results: dict[int, dict[str, Any]], search: dict[str, Any] = ETA, **tuning: Any
    ) -> None:
        self.space = _space(search, **tuning)
        self.prepared: list[Settings] = []
        self.state = SweepState(str(folder))
        first = first_points(self.space, self.space.base.tuning)
        points = [*first, *self.state.points()[len(first) :]]
        trials = self.space.base.tuning.trials
        self.search = TrialSearch(self.space, points, results, trials, self.state, self.prepared.append)
        self.ran: dict[int, Point] = {}

    def value(self, point: Point) -> float:
        return 1 - abs(self.space.settings(point).objective.eta - 0.7)

    def run(self, at_most: int = 99) -> list[Point]:
        for count in range(at_most):
            suggested = self.search.suggest(f"t{count}")
            if suggested == Searcher.FINISHED:
                break
            self.ran[suggested["number"]] = suggested["point"]
            result = {"value": self.value(suggested["point"]), "training_iteration": 1}
            self.search.on_trial_result(f"t{count}", result)
            self.search.on_trial_complete(f"t{count}", result)
        return list(self.ran.values())


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_the_same_seed_gives_the_same_points_in_the_same_order(sampler: str) -> None:
    points = _points(20, sampler, seed=3)
    assert points == _points(20, sampler, seed=3)
    assert points != _points(20, sampler, seed=4)
    assert points[:8] == _points(8, sampler, seed=3)
    assert len(points) == 20
    assert len({str(point) for point in points}) == 20


def test_the_first_point_is_the_base_and_all_lie_in_their_ranges() -> None:
    space = _space()
    first, *rest = _points(40, "qmc")
    assert first == {}
    assert space.settings(first) == space.base
    for point in rest:
        settings = space.settings(point)
        assert 0.5 <= settings.objective.eta <= 0.95
        assert settings.model.codebook_size in (64, 128, 512)
        assert 1 <= settings.anomaly.top_k <= 64
        assert settings.model.encoder == "features"
    assert min(point["anomaly.top_k"] for point in rest) < 4


def test_a_setting_varies_only_where_it_matters() -> None:
    points = _points(40, "random")[1:]
    hinged = [point for point in points if point["objective.form"] == "hinge"]
    assert 5 < len(hinged) < 35
    assert all("objective.margin" in point for point in hinged)
    assert all("objective.margin" not in point for point in points if point not in hinged)


def test_a_sobol_sequence_covers_a_range_evenly() -> None:
    points = _points(17, "qmc", {"objective.eta": {"uniform": [0.5, 0.9]}})[1:]
    quarters = [int((point["objective.eta"] - 0.5) / 0.1) for point in points]
    assert all(2 <= quarters.count(quarter) <= 6 for quarter in range(4))


def test_a_grid_is_all_combinations() -> None:
    search = {"objective.eta": {"uniform": [0.6, 0.9]}, "model.codebook_size": {"choice": [64, 128]}}
    points = _points(9, "grid", search)
    assert points[0] == {}
    found = {(round(point["objective.eta"], 6), point["model.codebook_size"]) for point in points[1:]}
    assert found == {(eta, size) for eta in (0.6, 0.7, 0.8, 0.9) for size in (64, 128)}
    with pytest.raises(SettingsError, match=r"8 trials, and there are 9 points with the base"):
        _points(8, "grid", search)


def test_a_space_with_few_points_gives_those() -> None:
    points = _points(10, "random", {"model.codebook_size": {"choice": [64, 1024]}})
    assert points == [{}, {"model.codebook_size": 64}]  # 1,024 is the base's


@pytest.mark.parametrize("name", ["tune-paper", "tune-full"])
def test_shipped_sweeps_are_valid(name: str) -> None:
    settings, search = load_sweep(name, ["tuning.trials=12"])
    space = parse_space(search, settings)
    points = first_points(space, settings.tuning.model_copy(update={"sampler": "qmc"}))
    assert len(points) == 12
    assert settings.model_dump() == load_settings("features").model_dump()


def test_points_to_evaluate_come_right_after_the_defaults() -> None:
    search = {"objective.eta": {"uniform": [0.5, 0.9]}}
    given = [{"objective.eta": 0.61}, {"objective.eta": 0.5}, {"objective.eta": 0.62}]  # 0.5 is the default
    points = _points(5, "qmc", search, points_to_evaluate=given)
    assert points[:3] == [{}, {"objective.eta": 0.61}, {"objective.eta": 0.62}]
    assert points[3:] == _points(3, "qmc", search)[1:]
    with pytest.raises(SettingsError, match=r"`tuning\.points_to_evaluate`: .* `search` does not vary"):
        _points(5, "qmc", search, points_to_evaluate=[{"objective.beta": 1.0}])
    with pytest.raises(SettingsError, match=r"a trial with objective\.eta=7"):
        _points(5, "qmc", search, points_to_evaluate=[{"objective.eta": 7.0}])


def test_tpe_finds_what_is_good_and_one_at_a_time_finds_it_again(tmp_path: Path) -> None:
    points = _Driver(tmp_path / "a", {}, trials=40).run()
    assert len(points) == 40
    assert points[0] == {}
    late = [abs(point["objective.eta"] - 0.7) for point in points[-10:]]
    assert sorted(late)[5] < 0.08, "half of what a random point is off"
    assert points == _Driver(tmp_path / "b", {}, trials=40).run()
    assert points != _Driver(tmp_path / "c", {}, trials=40, seed=1).run()


def test_a_search_that_goes_on_knows_results_and_runs_interrupted_trials_with_their_settings(
    tmp_path: Path,
) -> None:
    before = _Driver(tmp_path, {}, trials=30)
    before.run(25)
    results = {n: {"value": before.value(point)} for n, point in before.ran.items() if n not in (3, 24)}
    after = _Driver(tmp_path, results, trials=30)
    after.run()
    assert list(after.ran) == [3, 24, *range(25, 30)]
    assert {n: after.ran[n] for n in (3, 24)} == {n: before.ran[n] for n in (3, 24)}
    off = [abs(after.ran[n]["objective.eta"] - 0.7) for n in range(25, 30)]
    assert sorted(off)[2] < 0.1, "drawn by what was known"
    assert after.search.exhausted


def test_conditions_hold_for_what_is_suggested_and_for_what_is_fed_back(tmp_path: Path) -> None:
    driver = _Driver(tmp_path, {}, SEARCH, trials=30)
    hinged = [point for point in driver.run()[1:] if point["objective.form"] == "hinge"]
    assert 2 < len(hinged) < 28
    assert all("objective.margin" in point for point in hinged)
    others = [point for n, point in driver.ran.items() if n and point not in hinged]
    assert not any("objective.margin" in point for point in others)
    results = {number: {"value": 0.5} for number in driver.ran}
    assert _Driver(tmp_path, results, SEARCH, trials=30).run() == []


def test_a_base_outside_of_the_space_is_a_trial_all_the_same(tmp_path: Path) -> None:
    search = {"objective.eta": {"uniform": [0.6, 0.9]}, "model.codebook_size": {"choice": [64, 128]}}
    points = _Driver(tmp_path, {}, search, trials=6).run()
    assert points[0] == {}
    assert len(points) == 6


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    driver = _Driver(tmp_path, {}, {"model.codebook_size": {"choice": [64, 1024]}}, trials=10)
    assert driver.run() == [{}, {"model.codebook_size": 64}]  # 1,024 is the base's
    assert driver.search.exhausted


def test_data_are_prepared_before_a_trial_starts_and_its_point_is_written(tmp_path: Path) -> None:
    driver = _Driver(tmp_path, {}, {"tiles.size": {"choice": [64, 128, 256]}}, trials=3)
    driver.run()
    assert [one.tiles.size for one in driver.prepared] == [
        driver.space.settings(point).tiles.size for point in driver.ran.values()
    ]
    assert driver.state.points() == list(driver.ran.values())


def test_settings_that_do_not_go_together_are_a_trial_for_which_nothing_is_prepared(tmp_path: Path) -> None:
    search = {"tiles.size": {"choice": [32, 64]}, "tiles.stride": {"choice": [32, 64]}}
    driver = _Driver(tmp_path, {}, search, trials=5)
    while (suggested := driver.search.suggest(f"t{len(driver.ran)}")) != Searcher.FINISHED:
        driver.ran[suggested["number"]] = suggested["point"]
    bad = {"tiles.size": 32, "tiles.stride": 64}  # leaves gaps
    assert bad in driver.ran.values()
    assert len(driver.prepared) == len(driver.ran) - 1
    with pytest.raises(SettingsError, match="leaves gaps"):
        _points(5, "grid", search)


def test_ray_tune_gives_the_same_trials_again_one_at_a_time(small_cluster: None, tmp_path: Path) -> None:
    def trial(config: dict[str, Any]) -> None:
        tune.report({"value": 1 - abs(config["point"].get("objective.eta", 0.5) - 0.7)})

    def points(folder: Path) -> list[Point]:
        driver = _Driver(folder, {}, trials=14)
        tuning = tune.TuneConfig(
            search_alg=driver.search, num_samples=14, max_concurrent_trials=1, reuse_actors=True
        )
        tune.Tuner(
            trial, tune_config=tuning, run_config=tune.RunConfig(storage_path=str(folder), verbose=0)
        ).fit()
        return driver.search.points

    first = points(tmp_path / "a")
    assert len(first) == 14
    (pickled,) = (tmp_path / "a").rglob("tuner.pkl")
    assert b"raysvq.settings" not in pickled.read_bytes(), "settings hold credentials"
    assert first == points(tmp_path / "b")
