from __future__ import annotations

import pytest

from raysvq.report.evaluation.scale import score_scale
from tests.report.evaluations import evaluation, record, records


def test_every_image_is_in_a_bar_and_the_threshold_on_the_scale() -> None:
    found = evaluation(records(300, 40))
    scale = score_scale(found)
    assert scale is not None
    assert (sum(scale.bars.normal), sum(scale.bars.anomalous)) == (300, 40)
    assert 0 < scale.share(3.0) < 1
    shares = [share for share, _ in scale.ticks]
    assert shares == sorted(shares)
    assert len(shares) >= 3


@pytest.mark.parametrize(
    ("scores", "logarithmic"), [([1.0, 4.0], False), ([0.0, 400.0], False), ([1.0, 400.0], True)]
)
def test_a_wide_range_of_positive_scores_is_logarithmic(scores: list[float], logarithmic: bool) -> None:
    scale = score_scale(evaluation([record(f"{score}", score) for score in scores]))
    assert scale is not None
    assert scale.logarithmic == logarithmic
    assert scale.low < min(scores)
    assert scale.high > max(scores)


def test_one_image_at_its_threshold_still_has_a_scale() -> None:
    scale = score_scale(evaluation([record("a", 3.0)]))
    assert scale is not None
    assert scale.share(3.0) == pytest.approx(0.5)
    assert score_scale(evaluation([])) is None
