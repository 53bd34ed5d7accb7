"""Where training starts from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import build_network
from raysvq.settings import Settings
from raysvq.training import initialize as initialize_module
from raysvq.training.data_loading import Batch, Place, Tiles, tiles_of
from raysvq.training.initialize import initialize, initialize_from_data
from raysvq.training.shuffling import in_memory

Build = Callable[..., Settings]


def test_start_standardises_the_input_and_places_the_codes_in_the_data(small: Build) -> None:
    settings = small()
    model = build_network(settings)

    def tiles() -> Iterator[Batch]:
        while True:
            pixels = torch.rand(64, 3, 16, 16) * torch.tensor([0.5, 0.2, 0.1])[:, None, None] + 0.3
            pixels[-16:] = 1.0  # outliers
            yield Batch(pixels, 16, torch.ones(16, 4, 4))

    stream = tiles()
    before = model.quantizer.codebook.clone()
    initialize_from_data(model, stream, settings)
    torch.testing.assert_close(model.mean.flatten(), torch.tensor([0.55, 0.4, 0.35]), atol=0.01, rtol=0)
    torch.testing.assert_close(
        model.std.flatten(), torch.tensor([0.5, 0.2, 0.1]) / 12**0.5, atol=0.01, rtol=0
    )
    normal = next(stream).pixels[:48]
    with torch.no_grad():
        placed = float(model.distance_map(normal).mean())
        model.quantizer.codebook.copy_(before)
        assert placed < float(model.distance_map(normal).mean()) / 2


def test_start_measures_how_far_normals_lie_from_codes_that_they_had_no_part_in(small: Build) -> None:
    settings = small(tiles={"size": 64}, model={"encoder": "features", "codebook_size": 256})
    model = build_network(settings)
    assert isinstance(model, FeatureDictionary)
    features = torch.randn(6, len(model.mean), 8, 8, generator=torch.Generator().manual_seed(0))
    features[:, :, :, 5:] *= torch.tensor([0.2, 1.0, 2.0, 3.0, 4.0, 5.0])[:, None, None, None]
    outlier = torch.full((1, len(model.mean), 8, 8), 1000.0)
    marked = torch.ones(1, 8, 8)
    initialize_from_data(model, iter([Batch(torch.cat([features, outlier]), 1, marked)]), settings)
    found = model.deviations.clone()
    assert (found[:, :, 6:].mean() > 1.02 * found[:, :, :4].mean()).all()
    model.fit_deviations(features, lambda _: None)  # by codes in which all tiles had a part
    assert found.mean() > 1.05 * model.deviations.mean()


def test_start_survives_images_of_one_shade(small: Build) -> None:
    model = build_network(small())
    initialize_from_data(model, iter(lambda: Batch(torch.full((64, 3, 16, 16), 0.5), 0, None), None), small())
    assert bool(torch.isfinite(model.quantizer.codebook).all())
    assert bool(torch.isfinite(model.distance_map(torch.rand(2, 3, 16, 16))).all())


def test_copies_of_labelled_tiles_take_part(small: Build) -> None:
    settings = small(training={"outlier_copies": 3, "flips": False})
    rng = np.random.default_rng(0)
    normal = {"tile": rng.integers(0, 65536, (40, 16, 16, 3)).astype(np.uint16)}
    outlier = {"tile": normal["tile"][:1], "weight": np.ones((1, 4, 4), np.float32)}
    tiles = tiles_of(in_memory(normal), outlier, 0, frozen_features=False)
    _, batches = initialize(settings, tiles, Place(torch.device("cpu")))
    drawn = torch.cat([batch.pixels[-batch.outliers :] for batch in itertools.islice(batches, 8)])
    assert len(torch.unique(drawn, dim=0)) == 1 + 3


@pytest.mark.parametrize("count", [2, 7, 8, 9, 22])  # of tiles; batches have 8
def test_start_sees_each_tile_once(small: Build, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    settings = small(training={"batch_size": 8, "flips": False})
    normal = {"tile": np.random.default_rng(0).integers(0, 65536, (count, 16, 16, 3)).astype(np.uint16)}
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        initialize_module, "initialize_from_data", lambda _, batches, __: seen.extend(batches)
    )
    initialize(settings, Tiles(in_memory(normal)), Place(torch.device("cpu")))
    tiles = torch.cat([batch.pixels for batch in seen])
    assert len(tiles) == len(torch.unique(tiles, dim=0)) == count
