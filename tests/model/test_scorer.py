"""Scores of whole image files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from raysvq.imaging.decode import DecodeError
from raysvq.model.device import Precision
from raysvq.model.network import Network
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.settings import ScoringSettings, Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], Network]
Draw = Callable[..., np.ndarray]
Encode = Callable[[np.ndarray], bytes]


def _score(model: Network, settings: Settings, content: bytes, **scoring: int) -> ImageResult:
    return ImageScorer(model, settings, ScoringSettings.model_validate(scoring))(content)


def _distances(model: Network, tile: np.ndarray) -> np.ndarray:
    """Of one (H, W, 3) tile of either depth, from the definition."""
    pixels = torch.from_numpy(tile.astype(np.float32) / np.iinfo(tile.dtype).max).permute(2, 0, 1)[None]
    with torch.no_grad():
        encoded = model.encoder((pixels - model.mean) / model.std)[0]
        apart = torch.cdist(encoded.flatten(1).T.double(), model.quantizer.codebook.double())
    return apart.min(dim=1).values.view(encoded.shape[1:]).numpy()


@pytest.mark.parametrize("pooling", ["tile_max", "map_max", "top_k"])
def test_scores_are_those_computed_by_hand(
    small: Build, make_model: Make, picture: Draw, png: Encode, pooling: str
) -> None:
    settings = small(anomaly={"pooling": pooling, "top_k": 5})
    model, image = make_model(settings), picture(40, 56)
    result = _score(model, settings, png(image))
    summed, times, scores = np.zeros((10, 14)), np.zeros((10, 14)), []
    for y in (0, 8):
        for x in (0, 24):
            distances = _distances(model, image[y : y + 32, x : x + 32])
            scores.append(np.sqrt((distances**2).sum()))
            place = slice(y // 4, y // 4 + 8), slice(x // 4, x // 4 + 8)
            summed[place] += distances
            times[place] += 1
    by_hand = summed / times
    pooled = {
        "tile_max": max(scores),
        "map_max": by_hand.max(),
        "top_k": np.sort(by_hand.ravel())[-5:].mean(),
    }
    np.testing.assert_allclose(result.tile_scores, scores, rtol=1e-5)
    np.testing.assert_allclose(result.anomaly_map, by_hand, rtol=1e-5, atol=1e-5)
    assert result.image_score == pytest.approx(pooled[pooling], rel=1e-5)
    assert result.span == (40, 56)
    assert result.tiling.rects().tolist() == [
        [0, 0, 32, 32],
        [24, 0, 32, 32],
        [0, 8, 32, 32],
        [24, 8, 32, 32],
    ]


def test_scores_do_not_depend_on_how_many_tiles_are_encoded_at_once(
    small: Build, make_model: Make, picture: Draw, png: Encode
) -> None:
    settings = small(tiles={"stride": 16})
    model, content = make_model(settings), png(picture(90, 110))
    results = [_score(model, settings, content, tile_batch=batch) for batch in (1, 3, 256)]
    for other in results[1:]:
        assert other.image_score == pytest.approx(results[0].image_score, abs=1e-5)
        np.testing.assert_allclose(other.tile_scores, results[0].tile_scores, atol=1e-5)
        np.testing.assert_allclose(other.anomaly_map, results[0].anomaly_map, atol=1e-5)


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_depth_of_the_file_changes_nothing(
    small: Build, make_model: Make, picture: Draw, png: Encode, mode: str
) -> None:
    settings = small(tiles={"mode": mode})
    model, image = make_model(settings), picture(50, 45)
    shallow = _score(model, settings, png(image))
    deep = _score(model, settings, png(image.astype(np.uint16) * np.uint16(257)))
    assert deep.image_score == shallow.image_score
    np.testing.assert_array_equal(deep.anomaly_map, shallow.anomaly_map)


def test_fine_steps_of_a_deep_image_are_seen(
    small: Build, make_model: Make, picture: Draw, png: Encode
) -> None:
    settings = small()
    model, image = make_model(settings), picture(32, 32).astype(np.uint16) * np.uint16(257)
    changed = image.copy()
    changed[:16] ^= 100
    assert (
        _score(model, settings, png(image)).image_score != _score(model, settings, png(changed)).image_score
    )


def test_whole_mode_scores_the_image_resized_to_one_tile(
    small: Build, make_model: Make, picture: Draw, png: Encode
) -> None:
    settings = small(tiles={"mode": "whole"}, anomaly={"pooling": "map_max"})
    model, image = make_model(settings), picture(96, 128)
    result = _score(model, settings, png(image))
    by_hand = _distances(model, cv2.resize(image * np.uint16(257), (32, 32), interpolation=cv2.INTER_AREA))
    assert result.anomaly_map.shape == (8, 8)
    assert result.span == (96, 128)
    assert result.tiling.rects().tolist() == [[0, 0, 128, 96]]
    np.testing.assert_allclose(result.anomaly_map, by_hand, rtol=1e-5, atol=1e-5)


def test_an_odd_sized_image_is_scored_to_its_edges(
    small: Build, make_model: Make, picture: Draw, png: Encode
) -> None:
    settings = small(anomaly={"pooling": "map_max"})
    model, image = make_model(settings), np.full((61, 83, 3), 120, np.uint8)
    plain = _score(model, settings, png(image))
    assert plain.anomaly_map.shape == (16, 21)
    assert plain.span == (64, 84)
    image[-3:, -3:] = picture(3, 3)
    marked = _score(model, settings, png(image))
    assert not np.array_equal(marked.anomaly_map[-2:, -2:], plain.anomaly_map[-2:, -2:])


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (20, 100)])
def test_an_image_smaller_than_a_tile_is_scored(
    small: Build, make_model: Make, picture: Draw, png: Encode, size: tuple[int, int]
) -> None:
    result = _score(make_model(small()), small(), png(picture(*size)))
    assert np.isfinite(result.image_score)
    assert result.anomaly_map.shape == (-(-size[0] // 4), -(-size[1] // 4))


def test_an_image_over_the_pixel_budget_is_refused(
    small: Build, make_model: Make, picture: Draw, png: Encode
) -> None:
    with pytest.raises(DecodeError, match="too_large"):
        _score(make_model(small()), small(), png(picture(40, 40)), max_pixels=1000)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "tiles", [{"size": 64}, {"size": 64, "stride": 48}, {"mode": "whole", "size": 128}], ids=str
)
def test_a_large_image_scores_the_same_in_little_memory(
    small: Build, make_model: Make, tiles: dict[str, object], channels: int
) -> None:
    settings = small(tiles=tiles | {"channels": channels})
    model = make_model(settings)
    fine = np.random.default_rng(1).integers(0, 256, (500, 750, 3), np.uint8)
    content = cv2.imencode(".jpg", cv2.resize(fine, (3000, 2000)))[1].tobytes()
    whole, bands = (_score(model, settings, content, image_memory_mib=mib) for mib in (512, 4))
    assert bands.tiling == whole.tiling
    assert bands.image_score == pytest.approx(whole.image_score, rel=1e-5)
    np.testing.assert_allclose(bands.tile_scores, whole.tile_scores, rtol=1e-5)
    np.testing.assert_allclose(bands.anomaly_map, whole.anomaly_map, rtol=1e-4, atol=1e-5)


def test_a_large_image_found_damaged_half_way_is_refused(small: Build, make_model: Make) -> None:
    content = cv2.imencode(".jpg", np.full((2000, 3000, 3), 99, np.uint8))[1].tobytes()
    with pytest.raises(DecodeError, match="corrupt"):
        _score(make_model(small()), small(), content[: len(content) // 2], image_memory_mib=4)


@pytest.mark.parametrize(
    ("suffix", "tiles", "reason"),
    [
        (
            ".bmp",
            {},
            "take 103 MiB, scoring.image_memory_mib allows 4: BMP of mode RGB cannot be read in bands",
        ),
        (".png", {"size": 256}, "take 9 MiB, .* allows 4: tiles of 256 rows cannot be read in bands"),
        (".png", {"mode": "whole", "size": 2048}, "an image that does not fill tiles.size=2048"),
    ],
)
def test_what_does_not_fit_the_memory_is_refused(
    small: Build, make_model: Make, suffix: str, tiles: dict[str, object], reason: str
) -> None:
    settings = small(tiles=tiles)
    content = cv2.imencode(suffix, np.zeros((2000, 3000, 3), np.uint8))[1].tobytes()
    with pytest.raises(DecodeError, match=f"too_large: 3000 x 2000 pixels .*{reason}"):
        _score(make_model(settings), settings, content, image_memory_mib=4)


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_many_images_score_as_each_alone(
    small: Build, make_model: Make, picture: Draw, png: Encode, mode: str
) -> None:
    settings = small(tiles={"mode": mode})
    scorer = ImageScorer(make_model(settings), settings, settings.scoring)
    images = [picture(32, 32), picture(50, 70, seed=1), picture(40, 33).astype(np.uint16) * np.uint16(250)]
    contents = [png(image) for image in images]
    first, damaged, *others = scorer.score_many([contents[0], b"no image", *contents[1:]])
    assert isinstance(damaged, DecodeError)
    assert damaged.reason == "not_an_image"
    for result, content in zip([first, *others], contents, strict=True):
        assert isinstance(result, ImageResult)
        alone = scorer(content)
        assert result.tiling == alone.tiling
        assert result.image_score == pytest.approx(alone.image_score, rel=1e-5)
        np.testing.assert_allclose(result.tile_scores, alone.tile_scores, rtol=1e-5)
        np.testing.assert_allclose(result.anomaly_map, alone.anomaly_map, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(result.codes, alone.codes)
        for name, found in asdict(alone.signals).items():
            assert getattr(result.signals, name) == pytest.approx(found, abs=0.01), (
                name
            )  # by the rounding of grey


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_codes_are_the_nearest_ones_tile_by_tile(
    small: Build, make_model: Make, picture: Draw, png: Encode, precision: Precision
) -> None:
    settings = small()
    model, image = make_model(settings), picture(40, 32)
    result = ImageScorer(model, settings, settings.scoring, precision=precision)(png(image))
    tiles = torch.from_numpy(np.stack([image[:32], image[8:]]) / np.float32(255)).permute(0, 3, 1, 2)
    with torch.no_grad():
        encoded = model.encode(tiles).movedim(1, -1).flatten(0, 2)
        expected = torch.cdist(encoded, model.quantizer.codebook).argmin(1).numpy()
    if precision == "float32":
        np.testing.assert_array_equal(result.codes, expected)
    else:  # every fourth position; rounding moves some between two codes
        assert (result.codes == expected[::4]).mean() > 0.9


def test_signals_of_an_image_do_not_depend_on_how_many_tiles_are_cut_at_once(
    small: Build, make_model: Make, png: Encode
) -> None:
    settings = small()
    model = make_model(settings)
    ramp = np.linspace(0, 255, 800, dtype=np.uint8)[None, :, None]
    content = png(np.broadcast_to(ramp, (800, 800, 3)).copy())
    whole = _score(model, settings, content).signals
    banded = _score(model, settings, content, image_memory_mib=1).signals
    assert banded.exposure == pytest.approx(whole.exposure)
    assert banded.sharpness == pytest.approx(whole.sharpness)
    assert whole.warmth is None


def test_none_of_many_images_can_be_read(small: Build, make_model: Make) -> None:
    settings = small(tiles={"mode": "whole"})
    (only,) = ImageScorer(make_model(settings), settings, settings.scoring).score_many([b""])
    assert isinstance(only, DecodeError)
