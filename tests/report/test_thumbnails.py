from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from raysvq.evaluation.evaluate import evaluate
from raysvq.report.evaluation import thumbnails
from raysvq.report.evaluation.thumbnails import draw_pictures, most_telling
from raysvq.settings import EvaluationSettings, TileSettings
from tests.report.evaluations import record, records

if TYPE_CHECKING:
    from tests.evaluation.conftest import ScoredSet


def test_mistakes_come_first_then_images_near_the_threshold_high_and_ordinary_ones() -> None:
    images = records(5000, 200)
    chosen = most_telling(images, 100)
    assert len({image.image_id for image in chosen}) == len(chosen) == 100
    verdicts = [(image.anomalous, image.flagged) for image in chosen]
    assert verdicts[:30] == [(True, False)] * 30
    assert verdicts[30:60] == [(False, True)] * 30
    assert max(images, key=lambda image: image.score) in chosen
    passed = [image.score for image in chosen if not image.anomalous and not image.flagged]
    assert min(passed) < np.median([image.score for image in images])


def test_a_kind_that_has_too_few_leaves_its_share_to_the_others() -> None:
    images = [record(f"{place}", 1.0 + place / 1000) for place in range(50)]
    assert len(most_telling(images, 20)) == 20
    assert len(most_telling(images, 90)) == 50
    assert most_telling(images, 0) == most_telling([], 5) == []


def test_the_contour_and_the_mask_lie_where_they_should(plates: Callable[..., ScoredSet]) -> None:
    scored_set = plates(normal=1, anomalous=2)
    scored_set.commit()
    found = evaluate(scored_set.manifest, scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings())
    everywhere = draw_pictures(scored_set.scores, found.images, found.map_range, 0.0)
    nowhere = draw_pictures(scored_set.scores, found.images, found.map_range, 1e9)
    for image in found.images:
        assert "M0.5 0.5" in everywhere[image.image_id].contour
        assert nowhere[image.image_id].contour == ""
        assert bool(everywhere[image.image_id].mask) == image.anomalous


def test_pictures_stop_at_the_size_that_a_page_may_have(
    plates: Callable[..., ScoredSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_set = plates()
    scored_set.commit()
    found = evaluate(scored_set.manifest, scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings())
    order = list(reversed(found.images))
    drawn = draw_pictures(scored_set.scores, order, None, None)
    room = sum(picture.bytes for picture in list(drawn.values())[:4])
    monkeypatch.setattr(thumbnails, "MAX_BYTES", room)
    kept = draw_pictures(scored_set.scores, order, None, None)
    assert list(kept) == [image.image_id for image in order[:4]]


def test_a_small_peak_of_a_large_map_is_in_the_contour(scored_set: ScoredSet) -> None:
    size = (2000, 1000)
    cv2.imwrite(str(scored_set.root / "a.png"), np.zeros(size, np.uint8))
    image_id = scored_set.list_image("a.png", "normal")
    values = np.zeros((1000, 500), np.float32)
    values[501, 103] = 1
    scored_set.keep_map(image_id, values, size, cell=2)
    scored_set.score(image_id, 1.0, size, [(0, 0, 32, 32)], [1.0])
    scored_set.commit()
    [image] = evaluate(
        scored_set.manifest, scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings()
    ).images
    contour = draw_pictures(scored_set.scores, [image], (0.0, 1.0), 0.5)[image_id].contour
    corner = [float(number) for number in re.findall(r"[\d.]+", contour)[:2]]
    assert corner == pytest.approx([1000 * 103 / 500 * 0.16, 2000 * 501 / 1000 * 0.16], abs=2)
