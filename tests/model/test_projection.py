"""Vectors in the plane."""

from __future__ import annotations

import numpy as np
import pytest

from raysvq.model.projection import project


def _groups(each: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(0, 20, (2, 50))
    points = centres[:, None] + np.random.default_rng(1).normal(size=(2, each, 50))
    return points.reshape(-1, 50).astype(np.float32)


def test_groups_stay_apart_and_the_result_is_the_same_each_time() -> None:
    vectors = _groups(40)
    points, how = project(vectors)
    assert how == "t-SNE"
    assert points.shape == (80, 2)
    np.testing.assert_array_equal(points, project(vectors)[0])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (apart[:40].argmin(axis=1) < 40).all()
    assert (apart[40:].argmin(axis=1) >= 40).all()


@pytest.mark.parametrize("vectors", [1, 2, 11])
def test_few_vectors_keep_their_order_along_the_main_direction(vectors: int) -> None:
    line = np.outer(np.arange(vectors), [3.0, 4.0, 0.0]).astype(np.float32)
    points, how = project(line)
    assert how == "PCA"
    np.testing.assert_allclose(np.abs(np.diff(points[:, 0])), 5, rtol=1e-5)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_no_vector_and_equal_ones() -> None:
    assert project(np.empty((0, 5), np.float32))[0].shape == (0, 2)
    points, how = project(np.full((40, 5), 7, np.float32))
    assert how == "PCA"
    np.testing.assert_allclose(points, 0, atol=1e-6)


def test_vectors_of_one_dimension_lie_on_a_line() -> None:
    points, how = project(np.arange(5, dtype=np.float32)[:, None])
    assert how == "PCA"
    assert points.shape == (5, 2)
    assert not points[:, 1].any()
