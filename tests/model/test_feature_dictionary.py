"""Learned dimensions beside the features of a frozen stem, and the codebook of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raysvq.imaging.region import Region
from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.feature_dictionary import FeatureDictionary, deviations
from raysvq.model.scorer import ImageScorer
from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.settings import AnomalySettings, Settings
from raysvq.training.frozen_features import gather_positions

Build = Callable[..., Settings]
Make = Callable[[Settings], FeatureDictionary]
Draw = Callable[..., np.ndarray]
Encode = Callable[[np.ndarray], bytes]

DEPTHS = [tap.channels for tap in EfficientNetLite().taps]
S = sum(DEPTHS)


@pytest.fixture
def settings(small: Build) -> Settings:
    return small(tiles={"size": 64}, model={"encoder": "features"})


@pytest.fixture
def normals() -> torch.Tensor:
    return torch.rand(12, 3, 64, 64)


@pytest.fixture
def model(settings: Settings, make_model: Make, normals: torch.Tensor) -> FeatureDictionary:
    """With pretrained stem, statistics, codes and deviations of `normals`; learned layers at random count."""
    model = make_model(settings)
    model.load_pretrained()
    with torch.no_grad():
        features = model.extract_features(normals)
        model.fit_statistics(features)
        model.quantizer.initialize(_positions(model.encode(features)), seed=0)
        model.fit_deviations(features, lambda _: None)
        for _ in range(40):
            output = model(features)
            model.update_codebook(_positions(output.encoded), output.quantized.indices.flatten(), labelled=2)
    return model


def _positions(grid: torch.Tensor) -> torch.Tensor:
    return grid.movedim(1, -1).flatten(0, 2)


def _apart(model: FeatureDictionary, features: torch.Tensor) -> torch.Tensor:
    """E − Q of (N, C, h, w) features, codes chosen by the features alone, in float64. (N, C + d, h, w)"""
    grid = (len(features), *features.shape[2:])
    codebook = model.quantizer.codebook.double()
    target = (features - model.mean) / model.std
    codes = codebook[torch.cdist(_positions(target).double(), codebook[:, :S]).argmin(dim=1)]
    nearest = codes.view(*grid, -1).movedim(-1, 1)
    learned = model.head(torch.cat([target, (target - nearest[:, :S].float()).abs()], dim=1))
    return torch.cat([target, learned], dim=1).double() - nearest


def test_features_stay_as_they_are_and_learned_dimensions_come_beside_them(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    output = model(model.extract_features(normals[:2]))
    assert output.encoded.shape == (2, S + 4, 8, 8)
    assert torch.equal(output.encoded[:, :S], output.target)
    output.encoded[:, S:].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.head.parameters())


def test_the_head_sees_how_features_differ_from_the_usual(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    features = model.extract_features(normals[:2])
    before = model(features).encoded
    model.quantizer.codebook[:, :S] += 1
    assert torch.equal(model(features).encoded[:, :S], before[:, :S])
    assert not torch.equal(model(features).encoded[:, S:], before[:, S:])


def test_distance_is_the_sum_over_depths_in_deviations_and_of_learned_dimensions(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    with torch.no_grad():
        apart = _apart(model, model.extract_features(normals[:2]))
        by_hand = model.learned_weight.double() * apart[:, S:].square().sum(dim=1).sqrt()
        at = 0
        for depth, channels in enumerate(DEPTHS):
            norm = apart[:, at : at + channels].square().sum(dim=1).sqrt()
            by_hand += norm / model.deviations[depth].double()
            at += channels
        found = model.distance_map(normals[:2])
    assert at == S
    assert model.learned_weight > 0
    assert apart[:, S:].any()
    assert found.shape == (2, 8, 8)
    torch.testing.assert_close(found.double(), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("labelled", "weight"), [(5, 0.8), (20, 2.0), (60, 3.0)])
def test_learned_dimensions_weigh_more_deviations_of_normals_the_more_outliers_are_labelled(
    settings: Settings, make_model: Make, normals: torch.Tensor, labelled: int, weight: float
) -> None:
    model = make_model(settings)
    means: list[torch.Tensor] = []
    with torch.no_grad():
        for tiles in (normals[:6], normals[6:]):
            features = model.extract_features(tiles)
            output = model(features)
            learned = _apart(model, features)[:, S:].norm(dim=1)
            means.append(torch.stack([learned.mean(), learned.square().mean()]))
            decay = model.quantizer.current_decay
            codes = output.quantized.indices.flatten()
            model.update_codebook(_positions(output.encoded), codes, labelled)
            # The first step has no average to follow.
            mean, square = means[0] if len(means) == 1 else decay * means[0] + (1 - decay) * means[1]
            assert float(model.learned_weight) == pytest.approx(
                weight * float(square - mean**2) ** -0.5, rel=1e-3
            )
    assert not torch.allclose(means[0], means[1])


def test_an_image_score_pools_features_and_learned_dimensions_each_by_itself(
    model: FeatureDictionary, settings: Settings, picture: Draw, png: Encode
) -> None:
    left = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    scorer = ImageScorer(model, settings, settings.scoring)
    content = png(picture(96, 160))
    for result in (scorer(content), scorer.within(left.read())(content)):
        everywhere = np.ones_like(result.anomaly_map, bool)
        features, learned = result.terms[:, everywhere if result.inside is None else result.inside]
        pooled = [np.sort(term)[-settings.anomaly.top_k :].mean() for term in (features, learned)]
        assert min(pooled) > 0
        assert result.image_score == pytest.approx(sum(pooled), rel=1e-6)
        np.testing.assert_allclose(result.map_values, features + learned, rtol=1e-6)
        label_free = result.pooled_without_labels(settings.anomaly)
        assert label_free == pytest.approx(pooled[0], rel=1e-6)
    tile_max = AnomalySettings(pooling="tile_max")
    assert result.pooled_without_labels(tile_max) is None
    model.learned_weight.zero_()
    assert scorer.within(left.read())(content).image_score == label_free


def test_without_labelled_outliers_features_alone_count(
    settings: Settings, make_model: Make, normals: torch.Tensor
) -> None:
    model = make_model(settings)
    features = model.extract_features(normals)
    model.fit_deviations(features, lambda _: None)
    output = model(features)
    codes = output.quantized.indices.flatten()
    model.update_codebook(_positions(output.encoded), codes, labelled=0)
    before = model.nearest(features)[0]
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(3)
    assert model(features).encoded[:, S:].any()
    assert torch.equal(model.nearest(features)[0], before)
    assert before.std() > 0


def test_what_a_code_says_of_the_features_is_the_reconstruction(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    output = model(model.extract_features(normals[:2]))
    assert torch.equal(output.reconstruction, output.quantized.quantize[:, :S])
    assert output.reconstruction.shape == output.target.shape == (2, S, 8, 8)


def test_a_pass_over_some_positions_finds_there_what_one_over_all_finds(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    positions = torch.stack([torch.randperm(64)[:10] for _ in normals])
    with torch.no_grad():
        features = model.extract_features(normals)
        every, some = model(features), model(gather_positions(features, positions))
    for found, of in (
        (some.encoded, every.encoded),
        (some.quantized.nearest, every.quantized.nearest),
        (some.reconstruction, every.reconstruction),
        (some.quantized.distances[:, None], every.quantized.distances[:, None]),
    ):
        expected = torch.stack([grid.flatten(1)[:, row] for grid, row in zip(of, positions, strict=True)])
        torch.testing.assert_close(found[..., 0], expected)


def test_the_objective_moves_learned_dimensions_alone(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    output = model(model.extract_features(normals))
    parts = model.losses(output, beta=2.0)
    learned = (output.encoded - output.quantized.nearest)[:, S:].square().mean(1)
    torch.testing.assert_close(parts.commitment, learned)
    torch.testing.assert_close(parts.reconstruction, (output.target - output.reconstruction).square().mean(1))
    (gradient,) = torch.autograd.grad(parts.total.sum(), output.encoded)
    learning = (output.encoded - output.quantized.nearest)[:, S:]
    torch.testing.assert_close(gradient[:, S:], 2 * 2.0 * learning / learning.shape[1])


def test_normal_tiles_are_standardised_by_channel(model: FeatureDictionary, normals: torch.Tensor) -> None:
    with torch.no_grad():
        standardised = model.standardise(model.extract_features(normals))
    assert model.mean.shape == model.std.shape == (S, 1, 1)
    torch.testing.assert_close(standardised.mean(dim=(0, 2, 3)), torch.zeros(S), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std(dim=(0, 2, 3)), torch.ones(S), atol=1e-4, rtol=0)


def test_deviations_are_those_of_distances_to_the_codes_at_each_place(
    model: FeatureDictionary, settings: Settings
) -> None:
    tiles = 20  # more than are measured at once
    with torch.no_grad():
        features = model.extract_features(torch.rand(tiles, 3, 64, 64))
        model.fit_deviations(features, lambda _: None)
        apart = _apart(model, features)[:, :S].split(DEPTHS, dim=1)
    distances = torch.stack([part.norm(dim=1) for part in apart], dim=1)
    assert model.deviations.shape == (4, 8, 8)
    torch.testing.assert_close(model.deviations.double(), deviations(distances), rtol=1e-4, atol=1e-6)


def test_each_half_of_the_tiles_is_measured_by_codes_of_the_other(model: FeatureDictionary) -> None:
    with torch.no_grad():
        features = model.extract_features(torch.rand(5, 3, 64, 64))
    code = torch.zeros_like(model.quantizer.codebook)

    def place(tiles: torch.Tensor) -> None:
        placed.append(tiles)
        model.quantizer.codebook.copy_(code + float(len(placed)))  # the first half near 1, the second near 2

    placed: list[torch.Tensor] = []
    model.fit_deviations(features, place)
    assert [part.tolist() for part in placed] == [features[1::2].tolist(), features[0::2].tolist()]
    with torch.no_grad():
        encoded = model.standardise(features).double()
    apart = torch.cat([encoded[0::2] - 1, encoded[1::2] - 2]).split(DEPTHS, dim=1)
    distances = torch.stack([part.norm(dim=1) for part in apart], dim=1)
    torch.testing.assert_close(model.deviations.double(), deviations(distances), rtol=1e-4, atol=1e-6)


def _start(model: FeatureDictionary, features: torch.Tensor, doubtful: torch.Tensor | None) -> torch.Tensor:
    """Start with `trim=0.2`; the tiles that were not left out."""

    def place(tiles: torch.Tensor) -> None:
        model.quantizer.initialize(_positions(model.encode(tiles)), seed=0)

    return model.fit_deviations(features, place, doubtful, 0.2)


def test_doubtful_tiles_that_are_least_like_the_others_are_left_out(model: FeatureDictionary) -> None:
    features = torch.randn(10, S, 8, 8, generator=torch.Generator().manual_seed(0))
    features[3, :, :2, :2] += 20
    features[6, :, 5:, 5:] += 20
    everything = torch.ones(10, dtype=torch.bool)
    assert (~_start(model, features, everything)).nonzero().flatten().tolist() == [3, 6]
    trimmed = model.deviations.clone()
    _start(model, features[_start(model, features, everything)], None)
    torch.testing.assert_close(trimmed, model.deviations)
    verified = everything.clone()
    verified[3] = False
    left_out = (~_start(model, features, verified)).nonzero().flatten().tolist()
    assert left_out == [6], "of nine a fifth is one; a verified tile stays"
    assert (model.deviations[:, :2, :2] > trimmed[:, :2, :2]).all()


def test_without_doubt_every_tile_is_kept(model: FeatureDictionary) -> None:
    features = torch.randn(10, S, 8, 8, generator=torch.Generator().manual_seed(0))
    features[3] += 20
    for doubtful in (None, torch.zeros(10, dtype=torch.bool)):
        assert _start(model, features, doubtful).all()


def test_all_ranks_place_codes_equally_often_however_many_tiles_they_have(model: FeatureDictionary) -> None:
    def times(tiles: int, doubted: int) -> int:
        placed: list[int] = []
        features = torch.randn(tiles, S, 8, 8, generator=torch.Generator().manual_seed(0))
        model.fit_deviations(
            features, lambda some: placed.append(len(some)), torch.arange(tiles) < doubted, 0.2
        )
        assert min(placed) > 0
        return len(placed)

    assert times(1, 0) == times(1, 1) == times(3, 2) == times(20, 0) == times(20, 20)


def test_deviations_by_hand() -> None:
    distances = torch.tensor([[4.0, 0.0, 4.0], [4.0, 8.0, 4.0]])[:, None, None]  # variances 0, 16, 0
    there = torch.tensor([4.0, 8.0, 4.0])  # averaged with neighbours, 1 : 2 : 1, beyond the border as at it
    everywhere = 32 / 6  # 2 of 6 values differ from their mean by 4
    by_hand = (2 / 152 * there + 150 / 152 * everywhere).sqrt()
    torch.testing.assert_close(deviations(distances), by_hand.view(1, 1, 3))


def test_the_fewer_tiles_the_more_a_place_is_drawn_to_all() -> None:
    pair = torch.zeros(2, 1, 9, 9)
    pair[:, :, :, 6:] = torch.tensor([-6.0, 6.0])[:, None, None, None]  # a third varies by 36, the rest not
    everywhere = 36 / 3

    def variance(tiles: int) -> torch.Tensor:
        return deviations(pair.repeat(tiles // 2, 1, 1, 1))[0, 4].square()

    few, prior, many = variance(2), variance(150), variance(150_000)
    torch.testing.assert_close(few[[0, 8]], torch.tensor([0.0, 36.0]) * 2 / 152 + everywhere * 150 / 152)
    torch.testing.assert_close(prior[[0, 8]], (torch.tensor([0.0, 36.0]) + everywhere) / 2)
    torch.testing.assert_close(many[[0, 8]], torch.tensor([0.0, 36.0]), rtol=2e-3, atol=2e-2)


def test_each_depth_has_deviations_of_its_own() -> None:
    distances = torch.rand(10, 1, 5, 6)
    one, ten = deviations(torch.cat([distances, 10 * distances + 3], dim=1))
    torch.testing.assert_close(ten, 10 * one)
    torch.testing.assert_close(one[None], deviations(distances))


def test_distances_that_never_vary_do_not_divide_by_nothing(model: FeatureDictionary) -> None:
    assert (deviations(torch.full((4, 2, 5, 5), 7.0)) > 0).all()
    with torch.no_grad():
        grey = model.extract_features(torch.full((3, 3, 64, 64), 0.5))
        model.fit_deviations(grey[:1], lambda _: None)
        assert torch.isfinite(model.nearest(grey)[0]).all()


def test_where_normals_vary_the_same_difference_counts_less(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    before = model.distance_map(normals[:2])
    model.learned_weight.zero_()
    unweighted = model.distance_map(normals[:2])
    model.deviations[:, 3, 5] *= 2
    found = model.distance_map(normals[:2])
    torch.testing.assert_close(found[:, 3, 5], unweighted[:, 3, 5] / 2)
    found[:, 3, 5] = unweighted[:, 3, 5]
    assert torch.equal(found, unweighted)
    assert (before > unweighted).all()


def test_a_tile_has_the_distances_that_it_has_alone(model: FeatureDictionary, normals: torch.Tensor) -> None:
    with torch.inference_mode():
        together = model.distance_map(normals)
        alone = torch.cat([model.distance_map(tile[None]) for tile in normals])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_bundle_holds_the_stem(
    model: FeatureDictionary,
    settings: Settings,
    bundle: Bundle,
    normals: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make_bundle(model, settings, bundle.reference, bundle.decisions, bundle.training, bundle.history)
    save_bundle(made, str(tmp_path))

    def refuse(stem: EfficientNetLite, uri: str | None) -> None:
        raise AssertionError("pretrained weights were read")

    monkeypatch.setattr(EfficientNetLite, "load", refuse)
    loaded = load_bundle(str(tmp_path)).model
    with torch.inference_mode():
        assert torch.equal(loaded.distance_map(normals[:2]), model.distance_map(normals[:2]))


def test_a_stem_in_bfloat16_moves_distances_little(model: FeatureDictionary, normals: torch.Tensor) -> None:
    with torch.inference_mode():
        exact, close = model.distance_map(normals[:3]), model.bfloat16_nearest_map()(normals[:3])[0].sum(1)
    assert close.dtype == torch.float32
    assert 0 < (close / exact - 1).abs().mean() < 0.05
    assert next(model.stem.parameters()).dtype == torch.float32
