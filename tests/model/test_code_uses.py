"""Uses of codes, and their patches."""

from __future__ import annotations

import numpy as np
import pytest

from raysvq.model import code_uses
from raysvq.model.code_uses import CodeUses


def _add(uses: CodeUses, codes: list[int], distances: list[float], marked: bool, image: int = 0) -> None:
    """A patch is one pixel: its image, and the number of its position."""
    values = np.array(distances, np.float32)
    uses.add(
        np.array(codes, np.int64),
        values,
        marked,
        lambda position: np.array([[[image, position, 0]]], np.uint16),
    )


def _sources(uses: CodeUses, code: int) -> list[list[int] | None]:
    return [None if patch is None else patch[0, 0, :2].tolist() for patch in uses.patches(code)]


def test_uses_and_mean_distances_by_label() -> None:
    uses = CodeUses(4)
    _add(uses, [1, 1, 3], [2, 4, 5], marked=False)
    _add(uses, [1, 2], [8, 9], marked=True)
    _add(uses, [3], [6], marked=False)
    np.testing.assert_array_equal(uses.counts, [[0, 2, 0, 2], [0, 1, 1, 0]])
    np.testing.assert_array_equal(uses.mean_distances(), [[np.nan, 3, np.nan, 5.5], [np.nan, 8, 9, np.nan]])


def test_patches_are_the_nearest_of_each_image_and_the_farthest_marked_one() -> None:
    uses = CodeUses(2)
    for image, distances in enumerate([[5, 1, 2], [3, 9, 3], [8, 7, 9], [0.5, 4, 4]]):
        _add(uses, [0, 0, 0], distances, marked=False, image=image)
    _add(uses, [0, 0], [3, 6], marked=True, image=7)
    _add(uses, [0], [5], marked=True, image=8)
    assert _sources(uses, 0) == [[3, 0], [0, 1], [1, 0], [7, 1]]
    assert _sources(uses, 1) == [None] * 4


def test_an_image_without_positions_changes_nothing() -> None:
    uses = CodeUses(2)
    _add(uses, [], [], marked=True)
    assert not uses.counts.any()


def test_of_a_large_codebook_only_the_most_used_keep_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_uses, "_KEPT", 2)
    monkeypatch.setattr(code_uses, "_SLACK", 1)
    uses = CodeUses(10)
    for _ in range(2):
        _add(uses, [4, 7], [1, 1], marked=False)
    _add(uses, list(range(10)), [1.0] * 10, marked=False)
    assert [code for code in range(10) if uses.patches(code)[0] is not None] == [4, 7]
    assert uses.counts[0].tolist() == [1, 1, 1, 1, 3, 1, 1, 3, 1, 1]
