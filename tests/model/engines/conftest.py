"""Models whose codes lie where their features do, as training places them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from raysvq.imaging.decode import Pixels
from raysvq.model.feature_dictionary import FeatureDictionary
from raysvq.model.network import build_network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import ModelSettings, Settings, TileSettings

Features = Callable[..., ImageScorer]
_CODES = 300  # more than bfloat16 or a byte can number


@pytest.fixture(scope="session")
def features() -> Features:
    """A scorer of a dictionary of features; `pretrained=False` draws the weights of its stem."""

    def make(side: int = 64, halo: int = 0, pretrained: bool = True) -> ImageScorer:
        torch.manual_seed(0)
        settings = Settings(
            tiles=TileSettings(size=side, halo=halo, mode="tiles"),
            model=ModelSettings(encoder="features", codebook_size=_CODES, hidden=16, embedding_dim=8),
        )
        model = build_network(settings)
        assert isinstance(model, FeatureDictionary)
        if pretrained:
            model.load_pretrained()
        pixels = torch.from_numpy(photographs(8, side + 2 * halo, seed=1) / np.float32(255))
        with torch.no_grad():
            found = model.extract_features(pixels.permute(0, 3, 1, 2))
            model.fit_statistics(found)
            positions = model.encode(found).movedim(1, -1).flatten(0, 2)
            codes = positions[torch.randint(len(positions), (_CODES,))]
            model.quantizer.codebook[:, : codes.shape[1]] = codes + 0.3 * torch.randn_like(codes)
            model.fit_deviations(found, lambda _: None)
            model.learned_weight.fill_(0.5)
        return ImageScorer(model, settings, settings.scoring)

    return make


def photographs(count: int, side: int, seed: int = 0, channels: int = 3) -> Pixels:
    """Smooth shapes with some noise, as noise alone looks alike everywhere. (count, side, side, channels)"""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = rng.uniform(1, 9, (count, channels, 2, 1, 1))
    shapes = np.sin(waves[:, :, 0] * x * 6) * np.cos(waves[:, :, 1] * y * 6) * 90 + 128
    noisy = np.moveaxis(shapes, 1, -1) + rng.normal(0, 12, (count, side, side, channels))
    return noisy.clip(0, 255).astype(np.uint8)
