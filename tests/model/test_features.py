"""Encoder, codebook and decoder on the features of a frozen stem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raysvq.model.bundle import Bundle, load_bundle, make_bundle, save_bundle
from raysvq.model.features import FeatureEncoder
from raysvq.model.network import SSVQVAE, position_statistics
from raysvq.model.precision import Bfloat16Distances
from raysvq.model.stem import Stem
from raysvq.settings import Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], SSVQVAE]

S = Stem.channels


@pytest.fixture
def settings(small: Build) -> Settings:
    return small(tiles={"size": 64}, model={"encoder": "features"})


@pytest.fixture
def normals() -> torch.Tensor:
    return torch.rand(12, 3, 64, 64)


@pytest.fixture
def model(settings: Settings, make_model: Make, normals: torch.Tensor) -> SSVQVAE:
    """With pretrained stem, statistics and codebook of `normals`, and learned layers at random."""
    model = make_model(settings)
    model.load_stem()
    with torch.no_grad():
        model.learn_statistics(model.stem(normals))
        model.quantizer.start_from(model.encode(normals).movedim(1, -1).flatten(0, 2), seed=0)
    return model


def test_features_stay_as_they_are_and_learned_dimensions_come_beside_them(settings: Settings) -> None:
    encoder = FeatureEncoder(S, settings.model)
    features = torch.randn(2, S, 5, 5)
    encoded = encoder(features)
    assert encoded.shape == (2, S + settings.model.embedding_dim, 5, 5)
    assert torch.equal(encoded[:, :S], features)
    encoded[:, S:].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.parameters())


def test_distance_is_to_the_nearest_code_over_features_and_learned_dimensions(
    model: SSVQVAE, normals: torch.Tensor
) -> None:
    with torch.no_grad():
        features = (model.stem(normals[:2]) - model.mean) / model.std
        both = torch.cat([features, model.encoder.head(features)], dim=1)  # type: ignore[operator]
        positions = both.movedim(1, -1).flatten(0, 2).double()
        by_hand = (positions[:, None] - model.quantizer.codebook.double()).norm(dim=-1).amin(dim=1)
        found = model.distance_map(normals[:2])
    torch.testing.assert_close(found.double().flatten(), by_hand, rtol=1e-4, atol=1e-4)
    assert found.shape == (2, 8, 8)


def test_the_decoder_gives_back_features(model: SSVQVAE, normals: torch.Tensor) -> None:
    output = model(model.stem(normals[:2]))
    assert output.reconstruction.shape == output.target.shape == (2, S, 8, 8)


def test_a_mean_is_shared_with_the_positions_around() -> None:
    stemmed = torch.zeros(3, S, 6, 7)
    stemmed[:, :, 2, 3] = 1
    stemmed[:, 0, 5, 6] = torch.tensor([0.0, 6.0, 3.0])
    mean, _ = position_statistics(stemmed)
    around = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    torch.testing.assert_close(mean[:, 1:4, 2:5], around.expand(S, 3, 3))
    assert mean[0, 5, 6] == pytest.approx(3 * 9 / 16)  # beyond the border as at it
    torch.testing.assert_close(mean.sum(dim=(1, 2))[1:], torch.ones(S - 1))


def test_a_position_that_never_varies_has_the_least_deviation_and_others_more() -> None:
    stemmed = torch.randn(1, S, 8, 8).repeat(40, 1, 1, 1)
    stemmed[:, :, :, :4] = torch.randn(40, S, 8, 4)
    _, std = position_statistics(stemmed)
    weighted = std * Stem.weights()[:, None, None]
    spread = stemmed.std(dim=(0, 2, 3))
    floor = (0.3 * spread)[:, None, None].expand(S, 8, 3)
    torch.testing.assert_close(weighted[:, :, 5:], floor)
    assert (weighted[:, :, :3] > 2 * floor).all()


def test_a_channel_that_never_varies_does_not_divide_by_nothing() -> None:
    _, std = position_statistics(torch.full((4, S, 4, 4), 7.0))
    assert (std > 0).all()


def test_fine_features_weigh_more_in_a_distance() -> None:
    _, std = position_statistics(torch.randn(20, 1, 4, 4).expand(20, S, 4, 4))
    torch.testing.assert_close(std[0] / std[-1], (Stem.weights()[-1] / Stem.weights()[0]).expand(4, 4))


def test_normal_tiles_are_standardised_about_zero(model: SSVQVAE, normals: torch.Tensor) -> None:
    with torch.no_grad():
        standardised = model.standardise(normals)
    assert model.mean.shape == model.std.shape == (S, 8, 8)
    assert standardised.mean(dim=(0, 2, 3)).abs().max() < 0.1
    shares = standardised.std(dim=(0, 2, 3)) / Stem.weights()
    assert ((shares > 0.5) & (shares < 1)).all()  # the floor makes it less than 1


def test_a_bundle_holds_the_stem(
    model: SSVQVAE,
    settings: Settings,
    bundle: Bundle,
    normals: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make_bundle(model, settings, bundle.reference, bundle.training, bundle.history)
    save_bundle(made, str(tmp_path))

    def refuse(stem: Stem, uri: str | None) -> None:
        raise AssertionError("pretrained weights were read")

    monkeypatch.setattr(Stem, "load", refuse)
    loaded = load_bundle(str(tmp_path)).model
    with torch.inference_mode():
        assert torch.equal(loaded.distance_map(normals[:2]), model.distance_map(normals[:2]))


def test_a_stem_in_bfloat16_moves_distances_little(model: SSVQVAE, normals: torch.Tensor) -> None:
    with torch.inference_mode():
        exact, close = model.distance_map(normals[:3]), Bfloat16Distances(model)(normals[:3])
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, rtol=0.1, atol=0)
    assert next(model.stem.parameters()).dtype == torch.float32
