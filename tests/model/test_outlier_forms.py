"""The forms of the outlier term against their definitions, and how they behave where numbers are extreme."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from raysvq.model.outlier_forms import FORMS, bounded_term
from raysvq.settings import ObjectiveSettings

Floats = npt.NDArray[np.float64]

OUTLIERS, NORMAL, SIDE = 3, 4, 2
MARGIN = 6.0
BOUNDS = {"hinge": 1.0, "inverse": 1.0, "hypersphere": 7.0, "deviation": 3.0}
EQUATIONS: dict[str, Callable[[float, float], float]] = {
    "hinge": lambda d, spread: max(0.0, 1 - d / MARGIN),
    "inverse": lambda d, spread: 1 / (d + 1),
    "hypersphere": lambda d, spread: -np.log(1 - np.exp(-(d + 0.001))),
    "deviation": lambda d, spread: max(0.0, 5 - (d - 1) / max(spread, 0.1)) / 5,
}

forms = pytest.mark.parametrize("form", FORMS)
labelled = pytest.mark.parametrize("labels", ["position", "tile"])
distance = st.floats(0, 2.0**100, width=32)


def grids(tiles: int, low: float, high: float) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    return arrays(np.float32, (tiles, SIDE, SIDE), elements=st.floats(low, high, width=32))


def _settings(form: str, labels: str = "position") -> ObjectiveSettings:
    return ObjectiveSettings.model_validate({"form": form, "labels": labels, "margin": MARGIN})


def _value(form: str, distances: Tensor, spread: float = 0.5) -> Tensor:
    return FORMS[form](distances, torch.tensor(spread), _settings(form))


def _slowly(form: str, labels: str, outlier: Floats, weight: Floats, normal: Floats) -> float:
    """The term, a tile at a time."""
    units = normal.mean(axis=(1, 2)) if labels == "tile" else normal.ravel()
    mean = units.mean()
    terms = []
    for distances, weights in zip(outlier, weight, strict=True):
        if weights.any():
            d = (weights * distances / mean).sum() / weights.sum()
            terms.append(EQUATIONS[form](d, units.std() / mean))
        else:
            terms.append(0.0)
    return float(np.mean(terms))


@forms
@labelled
@given(
    outlier=grids(OUTLIERS, 0, 1e4),
    weight=grids(OUTLIERS, 0, 1).map(lambda weights: np.where(weights < 0.01, 0, weights)),
    normal=grids(NORMAL, 0.125, 8),
)
@settings(max_examples=50, deadline=None)
def test_the_term_is_its_equation(
    form: str, labels: str, outlier: Floats, weight: Floats, normal: Floats
) -> None:
    if labels == "tile":
        weight = np.ones_like(weight)
    found = bounded_term(*map(torch.from_numpy, (outlier, weight, normal)), _settings(form, labels))
    in_double = (part.astype(np.float64) for part in (outlier, weight, normal))
    assert float(found) == pytest.approx(_slowly(form, labels, *in_double), rel=1e-3, abs=1e-5)


@forms
@given(near=distance, far=distance, spread=st.floats(0, 1e4, width=32))
@settings(max_examples=100, deadline=None)
def test_a_form_is_bounded_and_falls_with_distance(form: str, near: float, far: float, spread: float) -> None:
    low, high = _value(form, torch.tensor(sorted([near, far])), spread).tolist()
    assert 0 <= high <= low <= BOUNDS[form]


@forms
def test_a_form_falls_strictly_from_a_code_to_three_times_the_normal_distance(form: str) -> None:
    values = _value(form, torch.linspace(0, 3, 50))
    assert bool((values.diff() < 0).all())
    assert 0.4 < float(_value(form, torch.tensor(1.0))) <= 1


@forms
@given(outlier=grids(OUTLIERS, 0, 2.0**127), weight=grids(OUTLIERS, 0, 1), normal=grids(NORMAL, 0, 2.0**50))
@settings(max_examples=100, deadline=None)
def test_gradients_are_finite_and_push_the_marked_outwards(
    form: str, outlier: Floats, weight: Floats, normal: Floats
) -> None:
    distances = torch.from_numpy(outlier).requires_grad_()
    normals = torch.from_numpy(normal).requires_grad_()
    marked = torch.from_numpy(weight)
    term = bounded_term(distances, marked, normals, _settings(form))
    term.backward()
    assert 0 <= term.item() <= BOUNDS[form] * 1.001
    assert distances.grad is not None
    assert bool(torch.isfinite(distances.grad).all())
    assert bool((distances.grad <= 0).all())
    assert not bool(distances.grad[marked == 0].any())
    assert normals.grad is None


@forms
@labelled
def test_the_term_does_not_depend_on_the_scale_of_encodings(form: str, labels: str) -> None:
    outlier, weight, normal = (torch.rand(3, SIDE, SIDE) + 0.1 for _ in range(3))
    terms = [
        float(bounded_term(scale * outlier, weight, scale * normal, _settings(form, labels)))
        for scale in (1e-4, 1.0, 1e6)
    ]
    assert terms == pytest.approx([terms[1]] * 3, rel=1e-4)


@forms
def test_what_is_not_marked_may_be_infinitely_far(form: str) -> None:
    outlier = torch.ones(OUTLIERS, SIDE, SIDE)
    weight = torch.zeros_like(outlier)
    weight[:, 0, 0] = 1
    expected = bounded_term(outlier, weight, torch.ones(NORMAL, SIDE, SIDE), _settings(form))
    outlier[:, 1, 1] = float("inf")
    found = bounded_term(outlier, weight, torch.ones(NORMAL, SIDE, SIDE), _settings(form))
    assert torch.equal(found, expected)
    assert float(found) > 0


@forms
@pytest.mark.parametrize("tiles", [0, OUTLIERS])
def test_without_marks_there_is_neither_a_term_nor_a_force(form: str, tiles: int) -> None:
    outlier = torch.rand(tiles, SIDE, SIDE, requires_grad=True)
    term = bounded_term(outlier, torch.zeros_like(outlier), torch.rand(NORMAL, SIDE, SIDE), _settings(form))
    term.backward()
    assert term.item() == 0
    assert outlier.grad is not None
    assert not bool(outlier.grad.any())


@forms
def test_normals_that_sit_on_their_codes_leave_the_term_finite(form: str) -> None:
    outlier = torch.rand(OUTLIERS, SIDE, SIDE, requires_grad=True)
    term = bounded_term(outlier, torch.ones_like(outlier), torch.zeros(NORMAL, SIDE, SIDE), _settings(form))
    term.backward()
    assert 0 <= term.item() < 1e-4
    assert outlier.grad is not None
    assert bool(torch.isfinite(outlier.grad).all())
