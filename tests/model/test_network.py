"""What training and scoring rely on, of either network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raysvq.model.network import Network, build_network, cell_size
from raysvq.model.objective import objective
from raysvq.settings import Settings


@pytest.fixture(params=["pixels", "features"])
def settings(small: Callable[..., Settings], request: pytest.FixtureRequest) -> Settings:
    model = {"hidden": 8, "residual_hidden": 4, "codebook_size": 16, "embedding_dim": 4}
    return small(tiles={"size": 64}, model=model | {"encoder": request.param})


@pytest.fixture
def network(settings: Settings) -> Network:
    """Standardised, and with a codebook of what is then compared with it."""
    network = build_network(settings)
    with torch.no_grad():
        features = network.extract_features(torch.rand(6, 3, 64, 64))
        network.fit_statistics(features)
        network.quantizer.initialize(network.encode(features).movedim(1, -1).flatten(0, 2), seed=0)
    return network


def test_a_tile_has_a_distance_for_each_cell(network: Network, settings: Settings) -> None:
    side = 64 // cell_size(settings.model)
    with torch.inference_mode():
        found = network.distance_map(torch.rand(2, 3, 64, 64))
    assert network.cell == cell_size(settings.model)
    assert found.shape == (2, side, side)
    assert (found > 0).all()


def test_its_state_is_all_that_distances_depend_on(network: Network, settings: Settings) -> None:
    pixels, other = torch.rand(2, 3, 64, 64), build_network(settings)
    other.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(other.distance_map(pixels), network.distance_map(pixels))


def test_a_step_reaches_all_that_learns_and_the_codebook(network: Network, settings: Settings) -> None:
    output = network(network.extract_features(torch.rand(4, 3, 64, 64)))
    losses = network.losses(output, settings.objective.beta)
    side = 64 // network.cell
    assert losses.total.shape == losses.reconstruction.shape == losses.commitment.shape == (4, side, side)
    objective(losses, torch.ones(1, side, side), settings.objective).total.backward()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in learning)
    before = network.quantizer.codebook.clone()
    encoded = output.encoded[:3].detach().movedim(1, -1).flatten(0, 2)
    used = network.update_codebook(encoded, output.quantized.indices[:3].flatten(), labelled=2)
    assert int(used.sum()) == 3 * side**2
    assert not torch.equal(network.quantizer.codebook, before)


def test_distances_in_bfloat16_leave_the_network_as_it_is(network: Network) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        exact = network.distance_map(pixels)
        close = network.bfloat16_nearest_map()(pixels)[0].sum(1)
        assert torch.equal(network.distance_map(pixels), exact)
    assert close.dtype == torch.float32
    assert torch.isfinite(close).all()
    assert not torch.equal(close, exact)
