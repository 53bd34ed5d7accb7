"""Search spaces: what is read, what is refused, and the points drawn."""

from __future__ import annotations

from typing import Any

import pytest

from raysvq.errors import SettingsError
from raysvq.settings import Settings, load_settings, load_sweep
from raysvq.tuning.space import Space, parse_space

SEARCH: dict[str, Any] = {
    "objective.eta": {"uniform": [0.5, 0.95]},
    "model.codebook_size": {"choice": [64, 128, 512]},
    "objective.form": {"choice": ["hinge", "inverse"]},
    "objective.margin": {"log_uniform": [2, 32], "when": {"objective.form": "hinge"}},
    "anomaly.top_k": {"log_int": [1, 64]},
}


def _space(search: dict[str, Any] = SEARCH) -> Space:
    return parse_space(search, load_settings("features"))


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_the_same_seed_gives_the_same_points_in_the_same_order(sampler: str) -> None:
    points = _space().points(20, sampler, seed=3)
    assert points == _space().points(20, sampler, seed=3)
    assert points != _space().points(20, sampler, seed=4)
    assert points[:8] == _space().points(8, sampler, seed=3)
    assert len(points) == 20
    assert len({str(point) for point in points}) == 20


def test_the_first_point_is_the_base_and_all_lie_in_their_ranges() -> None:
    space = _space()
    first, *rest = space.points(40, "qmc", seed=0)
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
    points = _space().points(40, "random", seed=0)[1:]
    hinged = [point for point in points if point["objective.form"] == "hinge"]
    assert 5 < len(hinged) < 35
    assert all("objective.margin" in point for point in hinged)
    assert all("objective.margin" not in point for point in points if point not in hinged)


def test_a_sobol_sequence_covers_a_range_evenly() -> None:
    points = _space({"objective.eta": {"uniform": [0.5, 0.9]}}).points(17, "qmc", seed=0)[1:]
    quarters = [int((point["objective.eta"] - 0.5) / 0.1) for point in points]
    assert all(2 <= quarters.count(quarter) <= 6 for quarter in range(4))


def test_a_grid_is_all_combinations() -> None:
    search = {"objective.eta": {"uniform": [0.6, 0.9]}, "model.codebook_size": {"choice": [64, 128]}}
    points = _space(search).points(9, "grid", seed=0)
    assert points[0] == {}
    found = {(round(point["objective.eta"], 6), point["model.codebook_size"]) for point in points[1:]}
    assert found == {(eta, size) for eta in (0.6, 0.7, 0.8, 0.9) for size in (64, 128)}
    with pytest.raises(SettingsError, match=r"8 trials, and there are 9 points with the base"):
        _space(search).points(8, "grid", seed=0)


def test_a_space_with_few_points_gives_those() -> None:
    points = _space({"model.codebook_size": {"choice": [64, 512]}}).points(10, "random", seed=0)
    assert points == [{}, {"model.codebook_size": 64}]  # 512 is the base's


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (None, "section `search`: expected settings and what they range over"),
        ({}, "found {}"),
        ({"objective.etta": {"uniform": [0.5, 0.9]}}, "`objective.etta`: no setting of a training"),
        ({"tuning.trials": {"int": [2, 9]}}, "`tuning.trials`: no setting of a training"),
        ({"objective.eta": [0.5, 0.9]}, r"`objective.eta`: expected one of uniform, .*, found \[0.5, 0.9\]"),
        ({"objective.eta": {"normal": [0, 1]}}, "expected one of uniform"),
        ({"objective.eta": {"uniform": [0.9, 0.5]}}, r"uniform expects \[low, high\], found \[0.9, 0.5\]"),
        ({"training.steps": {"int": [1.5, 2.5]}}, r"int expects \[low, high\] of whole numbers"),
        ({"training.learning_rate": {"log_uniform": [0, 1]}}, r"log_uniform expects \[low, high\] above 0"),
        ({"model.codebook_size": {"choice": [64]}}, "choice expects two or more values"),
        (
            {"objective.eta": {"uniform": [0.5, 1.5]}},
            r"trial with objective.eta=1.5: setting `objective.eta`",
        ),
        ({"objective.form": {"choice": ["hinge", "square"]}}, "a trial with objective.form=square"),
        (
            {"objective.eta": {"uniform": [0.5, 0.9], "when": {"model.encode": "pixels"}}},
            "when expects settings and their values",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(search: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_space(search, load_settings("features"))


@pytest.mark.parametrize("name", ["tune-paper", "tune-full"])
def test_shipped_sweeps_are_valid(name: str) -> None:
    settings, search = load_sweep(name, ["tuning.trials=12"])
    points = parse_space(search, settings).points(12, settings.tuning.sampler, settings.tuning.seed)
    assert len(points) == 12
    assert settings.model_dump() == load_settings("features").model_dump()


def test_sections_of_a_sweep_come_over_those_of_its_base(tmp_path: Any) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: features\ntraining:\n  steps: 77\nsearch:\n  objective.eta: {uniform: [0.5, 0.9]}\n"
    )
    settings, search = load_sweep(file, ["training.batch_size=8"])
    assert (settings.training.steps, settings.training.batch_size) == (77, 8)
    assert settings.training.outlier_copies == load_settings("features").training.outlier_copies
    assert search == {"objective.eta": {"uniform": [0.5, 0.9]}}
    assert isinstance(settings, Settings)


def test_known_points_come_right_after_the_defaults() -> None:
    known = ({"objective.eta": 0.61}, {"objective.eta": 0.5}, {"objective.eta": 0.62})  # 0.5 is the default
    space = _space({"objective.eta": {"uniform": [0.5, 0.9]}})
    points = space.points(5, "qmc", seed=0, known=known)
    assert points[:3] == [{}, {"objective.eta": 0.61}, {"objective.eta": 0.62}]
    assert points[3:] == space.points(3, "qmc", seed=0)[1:]
    with pytest.raises(SettingsError, match=r"`tuning\.known`: .* sets what section `search` does not vary"):
        space.points(5, "qmc", seed=0, known=({"objective.beta": 1.0},))
    with pytest.raises(SettingsError, match=r"a trial with objective\.eta=7"):
        space.points(5, "qmc", seed=0, known=({"objective.eta": 7.0},))
