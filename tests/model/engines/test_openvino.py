"""OpenVINO says what PyTorch says, in float32 to 1e-5 of an image's score."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysvq.errors import SettingsError
from raysvq.imaging.decode import Pixels
from raysvq.model.device import has_fast_bfloat16, relative_deviation
from raysvq.model.engines import openvino
from raysvq.model.engines.openvino import OpenVinoEngine
from raysvq.model.network import Network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from tests.model.engines.conftest import Features, photographs

Build = Callable[..., Settings]
Make = Callable[[Settings], Network]
Encode = Callable[[np.ndarray], bytes]

CLOSE = 1e-5


def _in_openvino(scorer: ImageScorer) -> ImageScorer:
    return ImageScorer(scorer.model, scorer.settings, scorer.scoring, engine="openvino")


def _require_same(scorer: ImageScorer, tiles: Pixels) -> None:
    terms, codes = scorer.nearest(tiles)
    near, indices = _in_openvino(scorer).nearest(tiles)
    assert (near.dtype, indices.dtype) == (terms.dtype, codes.dtype)
    same = indices == codes
    assert same.mean() > 0.999  # between two codes rounding may decide
    assert near.shape == terms.shape
    for found, expected in zip(np.moveaxis(near, 1, 0), np.moveaxis(terms, 1, 0), strict=True):
        np.testing.assert_allclose(found[same], expected[same], rtol=CLOSE)


@pytest.mark.parametrize("pretrained", [True, False], ids=["shipped weights", "random weights"])
@pytest.mark.parametrize(("side", "halo"), [(64, 0), (64, 16), (256, 0)])
def test_features_have_the_distances_and_codes_of_torch(
    features: Features, side: int, halo: int, pretrained: bool
) -> None:
    scorer = features(side, halo, pretrained)
    tiles = photographs(2, scorer.settings.tiles.seen)
    assert len(np.unique(scorer.nearest(tiles)[1])) > 10
    _require_same(scorer, tiles)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_of_pixels_has_them_too(small: Build, make_model: Make, channels: int) -> None:
    settings = small(tiles={"channels": channels})
    scorer = ImageScorer(make_model(settings), settings, settings.scoring)
    _require_same(scorer, photographs(3, settings.tiles.size, channels=channels))


def test_sixteen_bits_count(features: Features) -> None:
    scorer = features()
    _require_same(scorer, photographs(2, 64).astype(np.uint16) * 257 // 2 + 90)


def test_scores_of_images_are_those_of_torch(features: Features, png: Encode) -> None:
    scorer = features()
    for number, (height, width) in enumerate([(64, 64), (150, 200)]):
        content = png(photographs(1, 200, seed=number)[0, :height, :width])
        exact, found = scorer(content), _in_openvino(scorer)(content)
        assert relative_deviation(found.image_score, exact.image_score) <= CLOSE
        np.testing.assert_allclose(found.anomaly_map, exact.anomaly_map, rtol=CLOSE)


def test_a_tile_scores_the_same_bits_whatever_it_comes_with(features: Features) -> None:
    scorer = _in_openvino(features())
    tiles = photographs(21, 64)  # a batch of 16, and a rest
    together, alone = scorer.nearest(tiles), [scorer.nearest(tile[None]) for tile in tiles]
    for all_of_them, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(all_of_them, np.concatenate(one_by_one))


def test_of_equal_codes_the_first_is_the_nearest(features: Features) -> None:
    scorer = features()
    codebook = scorer.model.quantizer.codebook
    codebook[150:] = codebook[:150].clone()
    codes = _in_openvino(scorer).nearest(photographs(2, 64))[1]
    assert codes.max() < 150


@pytest.mark.skipif(not has_fast_bfloat16("cpu"), reason="the CPU does not multiply in bfloat16")
def test_bfloat16_is_computed_where_it_is_asked_for(features: Features) -> None:
    scorer = features()
    tiles = photographs(2, 64)
    exact, found = scorer.distances(tiles), scorer.in_bfloat16("openvino").distances(tiles)
    apart = np.abs(found / exact - 1)
    assert apart.max() > 1e-4
    assert apart.mean() < 0.03


def test_another_precision_than_asked_for_is_refused(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = features()
    engine = OpenVinoEngine(scorer.model, "bfloat16", 64)
    if "FP16" in engine._library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("the CPU computes in all of them")
    monkeypatch.setitem(openvino._PRECISIONS, "bfloat16", "f16")  # it takes another one then
    with pytest.raises(SettingsError, match=r"`scoring\.precision`: found bfloat16, which OpenVINO"):
        engine(photographs(1, 64))


def test_threads_are_bound_to_no_core(features: Features) -> None:
    """Else all workers of a machine would share one."""
    before = os.sched_getaffinity(0)
    scorer = _in_openvino(features())
    scorer.nearest(photographs(1, 64))
    threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    assert all(os.sched_getaffinity(thread) == before for thread in threads)


def test_nothing_is_sent_to_its_makers(features: Features) -> None:
    """The package sends usage figures as it is imported, unless the one that does so is missing."""
    _in_openvino(features())
    telemetry = sys.modules["openvino.tools.ovc.telemetry_utils"]
    assert telemetry.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_without_the_package_the_extra_is_named(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=r"`scoring\.engine`: openvino cannot be .*raysvq\[openvino\]"):
        _in_openvino(features())
