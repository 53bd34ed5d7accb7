"""Scores within a region of interest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.region import Region
from raysvq.imaging.signals import SignalSums
from raysvq.model.anomaly import find_regions
from raysvq.model.engines import Nearest
from raysvq.model.network import Network
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.settings import Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], Network]
Draw = Callable[..., np.ndarray]
Encode = Callable[[np.ndarray], bytes]

LEFT = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
POOLINGS = ("tile_max", "map_max", "top_k")
MODES = ({"size": 32}, {"size": 32, "stride": 20}, {"mode": "whole", "size": 64})


@pytest.fixture(params=MODES, ids=("tiles", "overlapping", "whole"))
def scorer(request: pytest.FixtureRequest, small: Build, make_model: Make) -> Callable[..., ImageScorer]:
    def build(pooling: str = "top_k") -> ImageScorer:
        settings = small(tiles=request.param, anomaly={"pooling": pooling, "top_k": 5})
        return ImageScorer(make_model(settings), settings, settings.scoring)

    return build


def _same(one: ImageResult, other: ImageResult) -> None:
    assert one.image_score == other.image_score
    assert (one.tile_scores == other.tile_scores).all()
    assert (one.anomaly_map == other.anomaly_map).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_region_of_the_whole_image_changes_nothing(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode, pooling: str
) -> None:
    plain = scorer(pooling)
    whole = Region(polygon=((0, 0), (1, 0), (1, 1), (0, 1)))
    content = png(picture(75, 110))
    _same(plain.within(whole.read())(content), plain(content))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_defect_outside_changes_nothing(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode, pooling: str
) -> None:
    within = scorer(pooling).within(LEFT.read())
    image = picture(96, 192) // 4 + 96
    defect = image.copy()
    defect[20:70, 150:185] = 255  # farther from the region than an encoding sees
    plain = within(png(image))
    _same(within(png(defect)), plain)
    assert plain.image_score > 0


def test_a_defect_inside_scores_as_without_a_region(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode
) -> None:
    plain = scorer("map_max")
    image = picture(96, 192) // 16 + 96
    image[20:70, 20:60] = 255
    content = png(image)
    within, without = plain.within(LEFT.read())(content), plain(content)
    rows, columns = np.unravel_index(without.anomaly_map.argmax(), without.anomaly_map.shape)
    assert columns < without.anomaly_map.shape[1] / 2
    assert within.image_score == without.image_score
    assert within.anomaly_map[rows, columns] == without.anomaly_map[rows, columns]


def test_cells_outside_count_in_nothing(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode
) -> None:
    plain = scorer()
    content = png(picture(96, 192))
    within, without = plain.within(LEFT.read())(content), plain(content)
    assert within.inside is not None
    assert not within.anomaly_map[~within.inside].any()
    assert (within.anomaly_map[within.inside] == without.anomaly_map[within.inside]).all()
    assert len(within.map_values) == within.inside.sum() < within.anomaly_map.size
    assert within.image_score == pytest.approx(np.sort(within.map_values)[-5:].mean())
    middle = within.span[1] / 2
    for region in find_regions(within.anomaly_map, 0.0, within.span, (96, 192)):
        assert region.x + region.w <= middle + 8
    beside = [x >= 96 for x, *_ in within.tiling.rects().tolist()]
    assert (within.tile_scores[beside] == 0).all()
    assert (within.tile_scores <= without.tile_scores).all()


@pytest.mark.parametrize("together", [False, True])
def test_an_image_without_a_cell_inside_is_rejected(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode, together: bool
) -> None:
    speck = Region(polygon=((0.9, 0.9), (0.901, 0.9), (0.9, 0.901)))
    within = scorer().within(speck.read())
    content = png(picture(96, 192))
    if together:
        (found,) = within.score_many([content])
        assert isinstance(found, DecodeError)
        assert found.detail == "none of it is inside the region of interest"
    else:
        with pytest.raises(DecodeError, match="none of it is inside the region of interest"):
            within(content)
        with pytest.raises(DecodeError, match="none of it is inside the region of interest"):
            within.result(within._open(content).tiling, _never_read(), SignalSums())


def _never_read() -> Iterator[Nearest]:
    raise AssertionError("tiles were encoded, though no cell counts")
    yield


def test_codes_are_those_of_positions_inside(
    scorer: Callable[..., ImageScorer], picture: Draw, png: Encode
) -> None:
    plain, content = scorer(), png(picture(96, 192))
    whole = plain(content)
    for one in (plain, plain.in_bfloat16()):
        within = one.within(LEFT.read())(content)
        assert 0.3 * len(one(content).codes) < len(within.codes) < 0.7 * len(one(content).codes)
    assert set(plain.within(LEFT.read())(content).codes.tolist()) <= set(whole.codes.tolist())
