"""The codebook against brute force and a reference written from the equations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from raysvq.model.quantizer import Quantizer, nearest_indices, perplexity

K, D = 12, 4


def _quantizer(kind: str = "ema", size: int = K, **options: float) -> Quantizer:
    return Quantizer(D, size, learnable_codebook=kind == "gradient", **options)  # type: ignore[arg-type]


def _grid() -> Tensor:
    return torch.randn(3, D, 5, 6)


def _flat(grid: Tensor) -> Tensor:
    return grid.movedim(1, -1).flatten(0, 2)


def _mean_distance(positions: Tensor, quantizer: Quantizer) -> float:
    return float(torch.cdist(positions, quantizer.codebook.detach()).min(dim=1).values.mean())


@pytest.mark.parametrize(("seed", "offset"), [(0, 0.0), (1, 0.0), (2, 5.0), (3, -3.0)])
def test_nearest_code_is_that_of_brute_force(seed: int, offset: float) -> None:
    torch.manual_seed(seed)
    positions, codebook = torch.randn(2000, 8) + offset, torch.randn(64, 8) + offset
    apart = torch.cdist(positions.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(nearest_indices(positions, codebook), apart.argmin(dim=1))
    assert torch.equal(nearest_indices(positions, codebook, chunk=7), apart.argmin(dim=1))


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_every_position_gets_its_nearest_embedding_and_the_distance_to_it(kind: str) -> None:
    quantizer, encoded = _quantizer(kind), _grid()
    found = quantizer(encoded)
    apart = torch.cdist(_flat(encoded), quantizer.codebook.detach())
    assert found.indices.shape == found.distances.shape == (3, 5, 6)
    assert torch.equal(found.indices.flatten(), apart.argmin(dim=1))
    torch.testing.assert_close(found.distances.flatten(), apart.min(dim=1).values)
    codes = quantizer.codebook[found.indices].movedim(-1, 1)
    torch.testing.assert_close(found.nearest, codes)
    torch.testing.assert_close(found.quantize, codes)


def test_decoder_gradient_reaches_the_encoder_unchanged_and_not_an_ema_codebook() -> None:
    quantizer, encoded = _quantizer(), _grid().requires_grad_()
    pull = torch.randn_like(encoded)
    (quantizer(encoded).quantize * pull).sum().backward()
    assert torch.equal(encoded.grad, pull)  # type: ignore[arg-type]
    assert not list(quantizer.parameters())
    assert not quantizer.codebook.requires_grad


def test_decoder_gradient_passes_a_gradient_codebook_by() -> None:
    quantizer, encoded = _quantizer("gradient"), _grid().requires_grad_()
    quantizer(encoded).quantize.sum().backward()
    assert torch.equal(encoded.grad, torch.ones_like(encoded))  # type: ignore[arg-type]
    assert quantizer.codebook.grad is None


def test_codebook_loss_moves_the_codes_in_use_towards_their_encodings() -> None:
    quantizer, encoded = _quantizer("gradient"), _grid()
    found = quantizer(encoded)
    (encoded - found.nearest).square().sum().backward()
    expected = torch.zeros(K, D)
    for position, code in zip(_flat(encoded), found.indices.flatten(), strict=True):
        expected[code] += 2 * (quantizer.codebook.detach()[code] - position)
    torch.testing.assert_close(quantizer.codebook.grad, expected)
    assert 0 < len(found.indices.unique()) <= K


@pytest.mark.parametrize("decay", [0.6, 0.99])
def test_ema_update_follows_its_definition(decay: float) -> None:
    quantizer = _quantizer(decay=decay)
    counts, sums = np.ones(K), quantizer.codebook.double().numpy().copy()
    for step in range(1, 31):
        encoded = torch.randn(50, D) + 0.05 * step
        indices = torch.randint(K - 2, (50,))
        used = quantizer.update(encoded, indices)
        keep = min(decay, (1 + step) / (10 + step))
        mine = np.eye(K)[indices.numpy()]
        counts = keep * counts + (1 - keep) * mine.sum(0)
        sums = keep * sums + (1 - keep) * mine.T @ encoded.double().numpy()
        smoothed = (counts + 1e-5) / (counts.sum() + K * 1e-5) * counts.sum()
        np.testing.assert_array_equal(used.numpy(), mine.sum(0))
        np.testing.assert_allclose(quantizer.cluster_size.numpy(), counts, rtol=1e-4)
        np.testing.assert_allclose(quantizer.codebook.numpy(), sums / smoothed[:, None], rtol=1e-3, atol=1e-5)


def test_codes_settle_at_the_means_of_the_clusters_they_serve() -> None:
    centres = 3 * torch.eye(D)
    quantizer = _quantizer(size=D)
    quantizer.initialize(centres.repeat(10, 1) + 0.5, seed=0)
    for _ in range(300):
        encoded = (centres.repeat(25, 1) + 0.1 * torch.randn(100, D))[:, :, None, None]
        quantizer.update(_flat(encoded), quantizer(encoded).indices.flatten())
    assert float(torch.cdist(centres, quantizer.codebook).min(dim=1).values.max()) < 0.06


def test_gradient_codebook_is_left_to_its_optimiser() -> None:
    quantizer = _quantizer("gradient")
    before = quantizer.codebook.detach().clone()
    quantizer.update(torch.randn(50, D), torch.randint(K, (50,)))
    assert torch.equal(quantizer.codebook, before)


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_kmeans_start_is_nearer_than_a_random_one(kind: str) -> None:
    quantizer = _quantizer(kind)
    positions = 2 + torch.randn(3000, D) * torch.tensor([3.0, 1.0, 0.3, 0.1])
    random_codes = positions[torch.randperm(len(positions))[:K]]
    drawn = float(torch.cdist(positions, random_codes).min(dim=1).values.mean())
    before = _mean_distance(positions, quantizer)
    quantizer.initialize(positions, seed=0)
    assert _mean_distance(positions, quantizer) < min(before, drawn)
    torch.testing.assert_close(
        quantizer.embed_avg / quantizer.cluster_size[:, None], quantizer.codebook.detach()
    )


def test_kmeans_start_repeats_with_its_seed() -> None:
    positions = torch.randn(500, D)
    one, same, other = _quantizer(), _quantizer(), _quantizer()
    for quantizer, seed in ((one, 3), (same, 3), (other, 4)):
        quantizer.initialize(positions, seed)
    assert torch.equal(one.codebook, same.codebook)
    assert not torch.equal(one.codebook, other.codebook)


def test_fewer_positions_than_codes_are_enough() -> None:
    quantizer, positions = _quantizer(threshold_dead_code=0.05), torch.randn(5, D)
    quantizer.initialize(positions, seed=0)
    assert float(torch.cdist(quantizer.codebook, positions).min(dim=1).values.max()) < 0.05
    for _ in range(50):
        quantizer.update(positions, nearest_indices(positions, quantizer.codebook))
    assert bool(torch.isfinite(quantizer.codebook).all())
    assert _mean_distance(positions, quantizer) < 0.05


def test_positions_that_are_all_alike_are_no_obstacle() -> None:
    quantizer, positions = _quantizer(threshold_dead_code=0.05), torch.full((40, D), 0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantizer.initialize(positions, seed=0)
    for _ in range(5):
        quantizer.update(positions, nearest_indices(positions, quantizer.codebook))
    torch.testing.assert_close(quantizer.codebook, torch.full((K, D), 0.25))


@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_dead_codes_come_back_as_encodings_just_seen(kind: str) -> None:
    quantizer = _quantizer(kind, threshold_dead_code=0.05)
    codebook = quantizer.codebook
    codebook.data[8:] = 100.0
    for _ in range(4):
        seen = torch.randn(64, D)
        alive = codebook.detach().clone()
        quantizer.update(seen, nearest_indices(seen, codebook.detach()))
        revived = (codebook.detach()[8:] != alive[8:]).any(dim=1)
        if bool(revived.all()):
            break
    assert quantizer.codebook is codebook
    assert bool((codebook.detach()[8:, None] == seen[None]).all(dim=2).any(dim=1).all())
    assert bool((quantizer.cluster_size[8:] > 0.05 * quantizer.cluster_size.mean()).all())
    torch.testing.assert_close(
        quantizer.embed_avg[8:], codebook.detach()[8:] * quantizer.cluster_size[8:, None]
    )
    again = torch.randn(64, D)
    quantizer.update(again, nearest_indices(again, codebook.detach()))
    assert float(codebook.detach().abs().max()) < 10


def test_revival_can_be_turned_off() -> None:
    quantizer = _quantizer(threshold_dead_code=0.0)
    for _ in range(20):
        quantizer.update(torch.ones(64, D), torch.zeros(64, dtype=torch.int64))
    assert not bool((quantizer.codebook[1:] == 1).all(dim=1).any())


def test_perplexity_is_the_number_of_codes_that_carry_the_load() -> None:
    assert perplexity(torch.full((K,), 40.0)) == pytest.approx(K, rel=1e-5)
    assert perplexity(torch.tensor([9.0, 9.0, 0.0, 0.0])) == pytest.approx(2, rel=1e-5)
    assert perplexity(torch.tensor([0.0, 5.0, 0.0])) == pytest.approx(1, rel=1e-5)
    assert 1 < perplexity(torch.tensor([90.0, 10.0])) < 2


def test_stays_in_float32_under_autocast() -> None:
    quantizer, encoded = _quantizer(), _grid().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = quantizer(encoded)
        quantizer.update(_flat(encoded), half.indices.flatten())
    assert {half.quantize.dtype, half.nearest.dtype, half.distances.dtype} == {torch.float32}
    assert (
        quantizer.codebook.dtype == quantizer.embed_avg.dtype == quantizer.cluster_size.dtype == torch.float32
    )


def test_autocast_changes_no_distance() -> None:
    quantizer, encoded = _quantizer(size=500), _grid()
    with torch.autocast("cpu", torch.bfloat16):
        half = quantizer(encoded)
    full = quantizer(encoded)
    assert torch.equal(half.indices, full.indices)
    assert torch.equal(half.distances, full.distances)
