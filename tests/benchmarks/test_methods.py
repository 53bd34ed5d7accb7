"""What the other methods compute, on tiles and images small enough to say what is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.methods.autoencoder import Autoencoder
from benchmarks.methods.deep_sad import DeepSAD
from benchmarks.methods.dictionaries import fit_kmeans, fit_memory_bank
from benchmarks.methods.draws import NO_LABELS, Level
from benchmarks.methods.networks import fit
from benchmarks.methods.protocol import Manifests
from benchmarks.methods.samples import read_samples
from raysvq.data.manifest import select
from raysvq.settings import Settings
from raysvq.storage import read_bytes
from raysvq.training.tile_stream import Samples

Build = Callable[..., Settings]


def _samples(settings: Settings) -> Samples:
    """Faint noise, and noise with a bright square."""
    rng = np.random.default_rng(0)
    shape = (settings.tiles.size, settings.tiles.size, settings.tiles.channels)
    tiles = rng.integers(20_000, 24_000, (64, *shape)).astype(np.uint16)
    marked = tiles[:16].copy()
    marked[:, 8:20, 8:20] = 60_000
    side = settings.tiles.size // 4
    return Samples({"tile": tiles}, {"tile": marked, "weight": np.ones((16, side, side), np.float32)})


def test_deep_sad_learns_to_hold_normal_tiles_near_the_centre_and_outliers_off(small: Build) -> None:
    settings = small(training={"steps": 40, "validate_every": 40, "batch_size": 16})
    samples = _samples(settings)
    network = DeepSAD(samples, settings)
    tiles = [network.standardise(_pixels(columns)) for columns in (samples.normal, samples.outlier)]
    network.fix_centre(_pixels(samples.normal))
    assert network.centre.abs().min() >= 0.1

    def separation() -> float:
        with torch.no_grad():
            normal, outlier = (float(network.squares(part).mean()) for part in tiles)
        return outlier / normal

    before = separation()
    assert list(fit(network, network.loss, samples, settings)) == [40]
    assert separation() > 2 * before


def test_the_deep_sad_loss_is_that_of_the_paper(small: Build) -> None:
    settings = small()
    samples = _samples(settings)
    network = DeepSAD(samples, settings)
    tiles = network.standardise(torch.cat([_pixels(samples.normal)[:3], _pixels(samples.outlier)[:1]]))
    with torch.no_grad():
        distances = network.squares(tiles).mean(dim=(1, 2))
        found = network.loss(tiles, 1)
    assert float(found) == pytest.approx(float(distances[:3].sum() + 1 / (distances[3] + 1e-6)) / 4)
    assert not any("bias" in name for name, _ in network.encoder.named_parameters())


def test_the_autoencoder_scores_what_it_fails_to_give_back(small: Build) -> None:
    settings = small(training={"steps": 60, "validate_every": 30, "batch_size": 16, "learning_rate": 3e-3})
    samples = _samples(settings)
    network = Autoencoder(samples, settings)
    assert list(fit(network, network.loss, samples, settings)) == [30, 60]
    with torch.no_grad():
        found = network.distance_map(_pixels(samples.outlier)).mean(0)
    assert found.shape == (8, 8)
    assert found[2:5, 2:5].mean() > 2 * found[6:, 6:].mean()


def test_outlier_tiles_are_those_of_the_label_rule(manifests: Manifests, small: Build) -> None:
    settings = small(tiles={"size": 32, "anomalous_fraction": 0.05})
    samples = read_samples(manifests("sample", Level("outliers", 6), 0).learn, settings)
    assert samples.outlier is not None
    assert samples.normal["tile"].dtype == np.uint16
    assert (samples.outlier["weight"].mean(axis=(1, 2)) >= 0.04).all()  # shares of tiles, padding included
    assert read_samples(manifests("sample", NO_LABELS, 0).learn, settings).outlier is None


def test_a_bank_of_all_positions_gives_training_images_no_distance(
    manifests: Manifests, small: Build
) -> None:
    settings = small(tiles={"mode": "whole", "size": 64}, model={"encoder": "features"})
    manifest = manifests("sample", NO_LABELS, 0).learn
    normals = [
        read_bytes(select(manifest, split=one)["uri"].to_pylist()[0]) for one in ("train", "validation")
    ]
    bank, centres = fit_memory_bank(manifest, settings), fit_kmeans(manifest, settings)
    assert len(centres.model.entries) == 512 < len(bank.model.entries) < 12_000
    for normal in normals:
        assert bank(normal).anomaly_map.shape == (8, 8)
        assert bank(normal).image_score < 1e-3 < centres(normal).image_score


def _pixels(columns: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(columns["tile"].astype(np.float32) / 65535).permute(0, 3, 1, 2)
