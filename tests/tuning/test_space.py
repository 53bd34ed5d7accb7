"""Search spaces: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from raysvq.errors import SettingsError
from raysvq.settings import Settings, load_settings, load_sweep
from raysvq.tuning.space import Space, parse_space
from tests.sweeps import SEARCH


def _space(search: dict[str, Any] = SEARCH) -> Space:
    return parse_space(search, load_settings("features"))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (None, "section `search`: expected settings and what they range over"),
        ({}, "found {}"),
        ({"objective.etta": {"uniform": [0.5, 0.9]}}, "`objective.etta`: no setting of a training"),
        (
            {"training.outlier_share": {"uniform": [0.1, 0.5]}},
            "it is now called `training.outlier_fraction`",
        ),
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


def test_points_of_the_grid_lie_within_the_space_and_the_base_need_not() -> None:
    space = _space({"objective.eta": {"uniform": [0.6, 0.9]}, "anomaly.top_k": {"log_int": [1, 64]}})
    assert space.parameters_of({}) is None
    assert space.parameters_of({"anomaly.top_k": 3}) is None
    found = [space.parameters_of(point) for point in space.grid()]
    assert len(found) == 16
    assert all(found)


def test_what_does_not_matter_is_no_parameter_of_a_point() -> None:
    found = _space().parameters_of({"objective.form": "inverse", "model.codebook_size": 64})
    assert found is not None
    assert {parameter.name for parameter in found} == set(SEARCH) - {"objective.margin"}
