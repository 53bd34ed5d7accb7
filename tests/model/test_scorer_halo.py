"""Maps of tiles that are encoded with their surroundings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.settings import Settings

Build = Callable[..., Settings]
Draw = Callable[..., np.ndarray]
Encode = Callable[[np.ndarray], bytes]

_REACH = 416  # pixels that the last depth sees on each side; a multiple of its stride of 32


@pytest.fixture(scope="module")
def model() -> Network:
    """With pretrained stem and random codes."""
    torch.manual_seed(0)
    settings = Settings.model_validate(
        {"tiles": {"size": 64}, "model": {"encoder": "features", "codebook_size": 8, "embedding_dim": 4}}
    )
    model = build_network(settings)
    model.load_pretrained()
    return model.eval()


def _with_halo(model: Network, small: Build, halo: int) -> tuple[Network, Settings]:
    """The same weights, for tiles with a halo."""
    settings = small(
        tiles={"size": 64, "halo": halo}, model={"encoder": "features", "hidden": 128, "codebook_size": 8}
    )
    same = build_network(settings)
    same.load_state_dict(model.state_dict())
    return same, settings


def _encoded_whole(model: Network, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        features = model.extract_features(to_model_input(image[None], torch.device("cpu")))
        return features[0].numpy()


def test_tiles_with_enough_halo_are_encoded_as_in_the_whole_image(
    model: Network, small: Build, picture: Draw
) -> None:
    image = picture(1024, 1024)
    whole = _encoded_whole(model, image)
    within, _ = _with_halo(model, small, _REACH)
    y, x = 480, 448
    tile = image[y - _REACH : y + 64 + _REACH, x - _REACH : x + 64 + _REACH]
    found = _encoded_whole(within, tile)
    assert found.shape[1:] == (8, 8)
    expected = whole[:, y // 8 : y // 8 + 8, x // 8 : x // 8 + 8]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_halo_brings_a_tile_nearer_to_the_whole_image(
    model: Network, small: Build, picture: Draw, png: Encode
) -> None:
    image = picture(320, 320)
    whole = _encoded_whole(model, image)[:, 16:24, 16:24]
    apart = []
    for halo in (0, 32, 96):
        within, _ = _with_halo(model, small, halo)
        around = slice(128 - halo, 192 + halo)
        apart.append(float(np.abs(_encoded_whole(within, image[around, around]) - whole).mean()))
    assert apart[0] > 1.5 * apart[1] > 1.5**2 * apart[2]


def test_map_and_scores_are_of_the_tiles_proper(
    model: Network, small: Build, picture: Draw, png: Encode
) -> None:
    image = picture(150, 200)
    plain, settings = _with_halo(model, small, 0)
    within, surrounded = _with_halo(model, small, 32)
    without = ImageScorer(plain, settings, settings.scoring)(png(image))
    found = ImageScorer(within, surrounded, surrounded.scoring)(png(image))
    assert found.anomaly_map.shape == without.anomaly_map.shape
    assert len(found.codes) == len(without.codes)
    assert found.tiling.rects().tolist() == without.tiling.rects().tolist()
    assert found.signals == without.signals
