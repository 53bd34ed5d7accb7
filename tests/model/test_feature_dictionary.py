"""Learned dimensions beside the features of a frozen stem, and the codebook of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.feature_dictionary import FeatureDictionary, position_statistics
from raysvq.model.network import gather_positions
from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.settings import Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], FeatureDictionary]

W = EfficientNetLite().channel_weights()
S = len(W)


@pytest.fixture
def settings(small: Build) -> Settings:
    return small(tiles={"size": 64}, model={"encoder": "features"})


@pytest.fixture
def normals() -> torch.Tensor:
    return torch.rand(12, 3, 64, 64)


@pytest.fixture
def model(settings: Settings, make_model: Make, normals: torch.Tensor) -> FeatureDictionary:
    """With pretrained stem, statistics and codes of `normals`, and learned layers at random that count."""
    model = make_model(settings)
    model.load_pretrained()
    with torch.no_grad():
        features = model.extract_features(normals)
        model.fit_statistics(features)
        model.quantizer.initialize(_positions(model.encode(features)), seed=0)
        for _ in range(40):
            output = model(features)
            model.update_codebook(
                _positions(output.encoded), output.quantized.indices.flatten(), labelled=True
            )
    return model


def _positions(grid: torch.Tensor) -> torch.Tensor:
    return grid.movedim(1, -1).flatten(0, 2)


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


def test_features_choose_the_code_and_learned_dimensions_add_to_its_distance(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    codebook = model.quantizer.codebook.double()
    with torch.no_grad():
        features = (model.extract_features(normals[:2]) - model.mean) / model.std
        apart = torch.cdist(_positions(features).double(), codebook[:, :S])
        codes = codebook[apart.argmin(dim=1)]
        usual = codes[:, :S].float().view(2, 8, 8, S).movedim(-1, 1)
        learned = _positions(model.head(torch.cat([features, (features - usual).abs()], dim=1))).double()
        squares = apart.amin(dim=1) ** 2 + model.learned_weight * (learned - codes[:, S:]).square().sum(1)
        found = model.distance_map(normals[:2])
    assert model.learned_weight > 0
    assert learned.any()
    torch.testing.assert_close(found.double().flatten(), squares.sqrt(), rtol=1e-4, atol=1e-4)
    assert found.shape == (2, 8, 8)


def test_on_normals_learned_dimensions_make_up_a_stated_share(
    model: FeatureDictionary, normals: torch.Tensor
) -> None:
    with torch.no_grad():
        output = model(model.extract_features(normals))
    apart = _positions(output.encoded - output.quantized.nearest).square()
    share = model.learned_weight * apart[:, S:].sum(1).mean() / apart[:, :S].sum(1).mean()
    assert float(share) == pytest.approx(0.3, rel=0.15)  # of moving averages


def test_without_labelled_outliers_features_alone_count(
    settings: Settings, make_model: Make, normals: torch.Tensor
) -> None:
    model = make_model(settings)
    output = model(model.extract_features(normals))
    codes = output.quantized.indices.flatten()
    model.update_codebook(_positions(output.encoded), codes, labelled=False)
    found = model(model.extract_features(normals))
    apart = _positions(found.target) - model.quantizer.codebook[found.quantized.indices.flatten(), :S]
    torch.testing.assert_close(found.quantized.distances.flatten(), apart.norm(dim=1))


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
        every, some = model(features), model(gather_positions(features, positions), positions)
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


def test_a_mean_is_shared_with_the_positions_around() -> None:
    features = torch.zeros(3, S, 6, 7)
    features[:, :, 2, 3] = 1
    features[:, 0, 5, 6] = torch.tensor([0.0, 6.0, 3.0])
    mean, _ = position_statistics(features, W)
    around = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    torch.testing.assert_close(mean[:, 1:4, 2:5], around.expand(S, 3, 3))
    assert mean[0, 5, 6] == pytest.approx(3 * 9 / 16)  # beyond the border as at it
    torch.testing.assert_close(mean.sum(dim=(1, 2))[1:], torch.ones(S - 1))


def test_a_position_that_never_varies_has_the_least_deviation_and_others_more() -> None:
    features = torch.randn(1, S, 8, 8).repeat(40, 1, 1, 1)
    features[:, :, :, :4] = torch.randn(40, S, 8, 4)
    _, std = position_statistics(features, W)
    weighted = std * W[:, None, None]
    spread = features.std(dim=(0, 2, 3))
    floor = (0.3 * spread)[:, None, None].expand(S, 8, 3)
    torch.testing.assert_close(weighted[:, :, 5:], floor)
    assert (weighted[:, :, :3] > 2 * floor).all()


def test_a_channel_that_never_varies_does_not_divide_by_nothing() -> None:
    _, std = position_statistics(torch.full((4, S, 4, 4), 7.0), W)
    assert (std > 0).all()


def test_fine_features_weigh_more_in_a_distance() -> None:
    _, std = position_statistics(torch.randn(20, 1, 4, 4).expand(20, S, 4, 4), W)
    torch.testing.assert_close(std[0] / std[-1], (W[-1] / W[0]).expand(4, 4))


def test_normal_tiles_are_standardised_about_zero(model: FeatureDictionary, normals: torch.Tensor) -> None:
    with torch.no_grad():
        standardised = model.standardise(model.extract_features(normals))
    assert model.mean.shape == model.std.shape == (S, 8, 8)
    assert standardised.mean(dim=(0, 2, 3)).abs().max() < 0.1
    shares = standardised.std(dim=(0, 2, 3)) / W
    assert ((shares > 0.5) & (shares < 1)).all()  # the floor makes it less than 1


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
        exact, close = model.distance_map(normals[:3]), model.bfloat16_nearest_map()(normals[:3])[0]
    assert close.dtype == torch.float32
    assert 0 < (close / exact - 1).abs().mean() < 0.05
    assert next(model.stem.parameters()).dtype == torch.float32
