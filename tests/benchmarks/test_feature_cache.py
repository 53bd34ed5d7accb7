"""Kept features: found again, of this network alone, at the time that they took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.methods.feature_cache import installed, network_digest
from raysvq.model.network import Network, build_network
from raysvq.settings import Settings

Build = Callable[..., Settings]


@pytest.fixture
def network(small: Build) -> Network:
    return build_network(small(tiles={"mode": "whole", "size": 64}, model={"encoder": "features"})).eval()


def test_features_are_computed_once_and_come_out_alike(network: Network, tmp_path: Path) -> None:
    pixels = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        plain = network.extract_features(pixels)
        with installed(tmp_path) as cache:
            assert cache is not None
            first = network.extract_features(pixels)
            spent = cache.seconds
            again = network.extract_features(pixels[[2, 0]])
            files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert torch.equal(network.extract_features(pixels), plain)
    assert torch.equal(first, plain.half().float())
    assert torch.equal(again, first[[2, 0]])
    assert len(files) == 3
    assert cache.seconds > spent  # put forward by what the network took for the two rows


def test_another_network_or_other_pixels_are_not_taken_for_this(network: Network, tmp_path: Path) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    before = network_digest(network)
    with torch.inference_mode(), installed(tmp_path):
        first = network.extract_features(pixels)
        assert not torch.equal(network.extract_features(pixels.flip(-1)), first)
    with torch.no_grad():
        next(network.get_submodule("stem").parameters()).mul_(1.5)
    assert network_digest(network) != before
    with torch.inference_mode(), installed(tmp_path):
        assert not torch.equal(network.extract_features(pixels), first)


def test_a_network_in_another_precision_has_a_digest_of_its_own(network: Network) -> None:
    before = network_digest(network)
    assert network_digest(network) == before
    network.get_submodule("stem").bfloat16()
    assert network_digest(network) != before
