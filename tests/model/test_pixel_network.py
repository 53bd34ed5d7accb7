"""The paper's network: encoder, codebook and decoder, and its distances in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysvq.model.device import TOLERANCE, relative_deviation
from raysvq.model.network import build_network
from raysvq.model.pixel_network import CELL, PixelNetwork, ResidualStack
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings

Build = Callable[..., Settings]
Make = Callable[[Settings], PixelNetwork]


class _Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the decoder was run")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 24, 64])
def test_grid_has_a_position_for_each_cell_and_the_decoder_gives_the_tile_back(
    small: Build, make_model: Make, channels: int, side: int
) -> None:
    output = make_model(small(tiles={"channels": channels}))(torch.rand(2, channels, side, side))
    assert output.encoded.shape == (2, 4, side // CELL, side // CELL)
    assert output.quantized.distances.shape == (2, side // CELL, side // CELL)
    assert output.reconstruction.shape == output.target.shape == (2, channels, side, side)


def test_defaults_are_the_networks_of_the_paper() -> None:
    model = build_network(Settings())
    encoder = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Conv2d)]
    down = [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in encoder]
    block = [(32, 3, 1), (128, 1, 1)]
    assert down == [(64, 4, 2), (128, 4, 2), (128, 3, 1), *block, *block, (64, 1, 1)]
    decoder = [
        layer for layer in model.decoder.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    up = [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in decoder]
    assert up == [(128, 3, 1), *block, *block, (64, 4, 2), (3, 4, 2)]
    assert model.quantizer.codebook.shape == (512, 64)


def test_residual_blocks_add_to_what_passes_by() -> None:
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(ResidualStack(8, 4, 0)(x), torch.relu(x))
    stack = ResidualStack(8, 4, 2)
    for parameter in stack.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(stack(x), torch.relu(x))


def test_standardisation_is_part_of_the_model(small: Build, make_model: Make) -> None:
    model = make_model(small())
    pixels = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack([(pixels[:, c] - model.mean[c]) / model.std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model.standardise(pixels), by_hand)
    torch.testing.assert_close(model(pixels).target, by_hand)
    copy = build_network(small())
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.distance_map(pixels), model.distance_map(pixels))


def test_scoring_agrees_with_training_and_needs_no_decoder(small: Build, make_model: Make) -> None:
    model = make_model(small())
    pixels = torch.rand(2, 3, 32, 32)
    trained = model(pixels).quantized.distances
    model.decoder = _Refusing()
    assert torch.equal(model.distance_map(pixels), trained)


@pytest.mark.parametrize("far", [0.0, 100.0])
def test_distances_follow_those_in_float32(small: Build, make_model: Make, far: float) -> None:
    """Also where encodings and codes lie far from the origin."""
    model = make_model(small())
    last = model.encoder[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        last.bias += far
        model.quantizer.codebook += far
        exact, close = model.distance_map(pixels), model.bfloat16_nearest_map()(pixels)[0].sum(1)
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, rtol=0.03, atol=0.01)


def test_a_position_on_a_code_has_no_distance(small: Build, make_model: Make) -> None:
    model = make_model(small())
    with torch.inference_mode():
        pixels = torch.rand(1, 3, 32, 32)
        encoded = model.encode(pixels)[0].flatten(1).T[:16]
        model.quantizer.codebook[:] = encoded
        distances = model.bfloat16_nearest_map()(pixels)[0].flatten()[:16]
    assert torch.isfinite(distances).all()
    assert distances.max() < 0.02 * encoded.norm(dim=1).max()


def test_images_score_alike_in_both_precisions(
    small: Build,
    make_model: Make,
    picture: Callable[..., np.ndarray],
    png: Callable[[np.ndarray], bytes],
) -> None:
    settings, content = small(), png(picture(90, 70))
    exact = ImageScorer(make_model(settings), settings, settings.scoring)
    close = exact.in_bfloat16()(content)
    assert relative_deviation(close.image_score, exact(content).image_score) < TOLERANCE
    np.testing.assert_allclose(close.tile_scores, exact(content).tile_scores, rtol=TOLERANCE)
