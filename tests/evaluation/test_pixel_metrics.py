from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from raysvq.evaluation.pixel_metrics import PixelCurves

Case = tuple[list[np.ndarray], list[np.ndarray]]


def official_au_pro(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """MVTec AD's definition, point by point over every distinct value."""
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        numbers, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[numbers == number] for number in range(1, count + 1)]
    normal = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for value in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
        points.append(((normal >= value).mean(), np.mean([(region >= value).mean() for region in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def _case(
    seed: int, levels: int | None, scale: float = 1.0, offset: float = 0.0, signal: float = 0.5
) -> Case:
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(4):
        mask = (
            ndimage.binary_dilation(rng.random((40, 50)) < 0.004, iterations=2)
            if number
            else np.zeros((40, 50), bool)
        )
        mask[3 + number, 3] = number > 0
        values = rng.random((40, 50)) + signal * mask
        if levels:
            values = np.round(values * levels) / levels
        maps.append((offset + scale * values).astype(np.float32))
        masks.append(mask)
    return maps, masks


def _curves(maps: list[np.ndarray], masks: list[np.ndarray]) -> PixelCurves:
    curves = PixelCurves(min(float(values.min()) for values in maps))
    for values, mask in zip(maps, masks, strict=True):
        curves.update(values, mask)
    return curves


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([None, 3, 50]),
    st.sampled_from([(1.0, 0.0), (1e-4, 0.0), (30.0, 1e6), (5.0, -2.0), (1e4, 7.0)]),
    st.sampled_from([0.05, 0.3, 1.0]),
)
def test_metrics_agree_with_the_official_definition(
    seed: int, levels: int | None, scale: tuple[float, float], limit: float
) -> None:
    maps, masks = _case(seed, levels, *scale)
    curves = _curves(maps, masks)
    truth = np.concatenate([mask.ravel() for mask in masks])
    values = np.concatenate([one.ravel() for one in maps])
    assert curves.auroc() == pytest.approx(roc_auc_score(truth, values), abs=1e-4)
    short = max(1.0, 0.3 / limit)  # values that share a bin weigh more in a short range
    assert curves.au_pro(limit) == pytest.approx(official_au_pro(maps, masks, limit), abs=1e-4 * short)


def test_a_random_map_scores_half_the_limit() -> None:
    rng = np.random.default_rng(0)
    curves = PixelCurves(0.0)
    for _ in range(4):
        mask = ndimage.binary_dilation(rng.random((400, 400)) < 0.0005, iterations=6)
        curves.update(rng.random((400, 400), dtype=np.float32), mask)
    assert curves.au_pro(0.3) == pytest.approx(0.15, abs=0.01)
    assert curves.auroc() == pytest.approx(0.5, abs=0.01)


def test_a_perfect_map_scores_one() -> None:
    mask = np.zeros((20, 20), bool)
    mask[4:6, 4:6] = mask[10:18, 9:17] = True
    curves = PixelCurves(0.0)
    curves.update(mask.astype(np.float32), mask)
    assert (curves.auroc(), curves.au_pro(0.3)) == (1.0, 1.0)


def test_pixels_that_touch_at_a_corner_are_one_component_of_equal_weight() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1, 1] = mask[2, 2] = True
    mask[6:11, 6:11] = True
    values = np.zeros((12, 12), np.float32)
    values[1, 1] = values[2, 2] = 1.0
    curves = PixelCurves(0.0)
    curves.update(values, mask)
    assert curves.components == 2
    assert curves.au_pro(0.3) == pytest.approx(official_au_pro([values], [mask], 0.3), abs=1e-6)


@pytest.mark.parametrize("shards", [1, 7, 64])
@pytest.mark.parametrize("seed", [1, 2])
def test_shards_in_any_order_add_up_to_the_exact_metrics(shards: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    for part in range(17):
        for values, mask in zip(*_case(100 * seed + part, 60), strict=True):
            maps.append(values)
            masks.append(mask)
    lower = min(float(values.min()) for values in maps)
    total = PixelCurves(lower)
    for shard in rng.permutation(shards):
        curves = PixelCurves(lower)
        for at in rng.permutation(np.arange(shard, len(maps), shards)):
            curves.update(maps[at], masks[at])
        total.merge(curves)
    truth, values = (np.concatenate([one.ravel() for one in each]) for each in (masks, maps))
    assert total.auroc() == pytest.approx(roc_auc_score(truth, values), abs=1e-4)
    assert total.au_pro(0.3) == pytest.approx(official_au_pro(maps, masks, 0.3), abs=1e-4)


def test_an_image_without_a_mask_counts_as_unmarked() -> None:
    maps, masks = _case(1, None)
    whole = _curves(maps, masks)
    again = PixelCurves(whole.lower)
    for values, mask in zip(maps, masks, strict=True):
        again.update(values, mask if mask.any() else None)
    assert (again.auroc(), again.au_pro()) == (whole.auroc(), whole.au_pro())


def test_a_large_image_is_counted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = _case(1, None)
    whole = _curves(maps, masks)
    monkeypatch.setattr("raysvq.evaluation.pixel_metrics._PIXELS_AT_ONCE", 333)
    strips = _curves(maps, masks)
    assert strips.auroc() == whole.auroc()
    assert strips.au_pro() == pytest.approx(whole.au_pro(), abs=1e-12)


def test_without_marked_or_without_normal_pixels_there_is_no_metric() -> None:
    values = np.ones((4, 4), np.float32)
    for mask in (None, np.ones((4, 4), bool)):
        curves = PixelCurves(1.0)
        curves.update(values, mask)
        assert (curves.auroc(), curves.au_pro()) == (None, None)


def test_levels_are_quantiles_of_the_map_values() -> None:
    values = np.linspace(1e3, 1e3 + 8, 10_000, dtype=np.float32).reshape(100, 100)
    curves = PixelCurves(1e3)
    curves.update(values, None)
    assert curves.level(0.75, marked=False) == pytest.approx(1e3 + 6, abs=0.01)
    assert curves.level(0.75, marked=True) is None


@pytest.mark.parametrize("value", [-0.5, np.nan, np.inf])
def test_impossible_values_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite or below"):
        PixelCurves(0.0).update(np.full((2, 2), value, np.float32), None)


def test_different_sizes_and_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected equal sizes"):
        PixelCurves(0.0).update(np.ones((2, 2), np.float32), np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="lower bounds differ"):
        PixelCurves(0.0).merge(PixelCurves(1.0))
