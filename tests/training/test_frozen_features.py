"""Features of a frozen stem in place of tiles, and training on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.model.stems.efficientnet import EfficientNetLite
from raysvq.settings import Settings
from raysvq.training.data_loading import Place, tiles_of
from raysvq.training.frozen_features import frozen_features, gather_positions
from raysvq.training.in_process import train_in_process
from raysvq.training.initialize import initialize
from raysvq.training.shuffling import Columns, in_memory
from tests.backbones import write_description, write_onnx

Build = Callable[..., Settings]

STEM_CHANNELS = EfficientNetLite().channels


@pytest.fixture
def features(small: Build) -> Settings:
    return small(
        tiles={"size": 64},
        model={"encoder": "features"},
        training={"steps": 30, "validate_every": 30, "learning_rate": 1e-2}
        | {"outlier_copies": 1, "positions_per_tile": 20},
    )


@pytest.fixture
def model(features: Settings) -> Network:
    model = build_network(features)
    model.load_pretrained()
    return model


def _stripes(count: int, seed: int) -> Columns:
    """Stripes under noise, (T, 64, 64, 3)."""
    draw = np.random.default_rng(seed)
    stripes = 0.5 + 0.2 * np.sin(np.arange(64) / 3)[:, None, None]
    tiles = stripes + draw.normal(0, 0.05, (count, 64, 64, 3))
    return {"tile": (tiles.clip(0, 1) * 65_535).astype(np.uint16)}


def _scratched(count: int, seed: int) -> Columns:
    """The same with a faint square of 2 x 2 cells somewhere, and its mark."""
    columns = _stripes(count, seed)
    draw = np.random.default_rng(seed)
    weight = np.zeros((count, 8, 8), np.float32)
    for tile, mark in zip(columns["tile"], weight, strict=True):
        y, x = draw.integers(1, 6, 2)
        mark[y : y + 2, x : x + 2] = 1
        square = tile[8 * y : 8 * y + 16, 8 * x : 8 * x + 16]
        square -= square // 8
    return columns | {"weight": weight}


def _validation(scorer: ImageScorer) -> dict[str, Any]:
    return {"anomalous": [False], "auroc": None, "unreadable": []}


def test_features_take_the_place_of_tiles_row_by_row(model: Network) -> None:
    columns = _scratched(20, 0)
    source = frozen_features(in_memory(columns), model)
    with torch.no_grad():
        pixels = to_model_input(columns["tile"], torch.device("cpu"))
        by_hand = model.extract_features(pixels).half().movedim(1, -1)
    for _ in range(2):
        parts = list(source())
        assert all(set(part) == {"features", "weight"} for part in parts)
        found = np.concatenate([part["features"] for part in parts])
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, by_hand.numpy(), rtol=2e-3, atol=2e-3)
        assert np.array_equal(np.concatenate([part["weight"] for part in parts]), columns["weight"])


def test_who_takes_the_rows_can_learn_from_them(model: Network) -> None:
    for part in frozen_features(in_memory(_stripes(20, 0)), model)():
        assert not torch.is_inference_mode_enabled()
        model.zero_grad()
        features = torch.from_numpy(part["features"]).float().movedim(-1, 1)
        model(features).encoded.square().mean().backward()
        assert all(parameter.grad is not None for parameter in model.head.parameters())


def test_labels_push_outliers_away_and_leave_the_stem_alone(features: Settings) -> None:
    normal, outlier, unseen = _stripes(24, 0), _scratched(6, 1), _scratched(6, 2)

    def farther(labelled: Columns | None) -> float:
        """Distance of unseen marked positions, relative to that of unmarked ones."""
        model, _ = train_in_process(features, normal, labelled, _validation, progress=None)
        pretrained = EfficientNetLite()
        pretrained.load(None)
        for name, value in pretrained.state_dict().items():
            assert torch.equal(model.stem.state_dict()[name], value), name
        distances = ImageScorer(model, features, features.scoring).distances(unseen["tile"])
        usual = ImageScorer(model, features, features.scoring).distances(_stripes(6, 3)["tile"])
        return float(distances[unseen["weight"] == 1].mean() / usual.mean())

    with_labels, without = farther(outlier), farther(None)
    assert with_labels > 1.1 * without > 1.1


def test_a_backbone_that_a_user_brings_trains_as_the_shipped_one(features: Settings, tmp_path: Path) -> None:
    write_onnx(tmp_path / "network.onnx")
    model = features.model.model_copy(update={"stem": write_description(tmp_path)})
    settings = features.model_copy(update={"model": model})
    trained, _ = train_in_process(settings, _stripes(12, 0), _scratched(6, 1), _validation, progress=None)
    unseen, usual = _scratched(6, 2), _stripes(6, 3)
    scorer = ImageScorer(trained, settings, settings.scoring)
    distances = scorer.distances(unseen["tile"])
    assert distances[unseen["weight"] == 1].mean() > 1.1 * scorer.distances(usual["tile"]).mean()


def test_a_run_on_features_that_stopped_goes_on_as_if_it_had_not(features: Settings, tmp_path: Path) -> None:
    normal, outlier = _stripes(24, 0), _scratched(6, 1)
    training = features.training.model_copy(update={"validate_every": 10})
    settings = features.model_copy(update={"training": training})
    straight, _ = train_in_process(settings, normal, outlier, _validation, progress=None)

    def stop_after_two(line: str) -> None:
        if line.startswith("step 20"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_in_process(settings, normal, outlier, _validation, stop_after_two, tmp_path)
    torch.manual_seed(99)
    resumed, _ = train_in_process(settings, normal, outlier, _validation, None, tmp_path)
    assert float(resumed.learned_weight) > 0
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_labelled_by_tile_no_position_comes_first(features: Settings) -> None:
    """Where a mask marks a quarter of a tile, so do the positions that are drawn."""
    rows = np.random.default_rng(0).normal(size=(40, 8, 8, STEM_CHANNELS)).astype(np.float16)
    rows[..., 0] = np.arange(64).reshape(8, 8)  # says where the others are from
    outlier = {"features": rows[:16], "weight": np.zeros((16, 8, 8), np.float32)}
    outlier["weight"][:, :4, :4] = 1
    first = torch.arange(64.0).view(8, 8)[:4, :4].flatten()
    shares = {}
    training = features.training.model_copy(update={"flips": False, "outlier_copies": 0})
    for labels in ("tile", "position"):
        objective = features.objective.model_copy(update={"labels": labels})
        settings = features.model_copy(update={"objective": objective, "training": training})
        tiles = tiles_of(in_memory({"features": rows[16:]}), outlier, 0, frozen_features=True)
        _, batches = initialize(settings, tiles, Place(torch.device("cpu")))
        drawn = [batch.pixels[-batch.outliers :, 0] for batch, _ in zip(batches, range(20), strict=False)]
        shares[labels] = float(torch.isin(torch.cat(drawn), first).float().mean())
    assert shares["position"] == pytest.approx(16 / 20)
    assert shares["tile"] == pytest.approx(0.25, abs=0.05)


def test_a_halo_is_seen_but_neither_learnt_from_nor_marked(features: Settings, model: Network) -> None:
    tiles = features.tiles.model_copy(update={"size": 32, "halo": 16})
    with_halo = build_network(features.model_copy(update={"tiles": tiles}))
    with_halo.load_pretrained()
    columns = _scratched(3, 0)
    (whole,), (inside,) = (list(frozen_features(in_memory(columns), one)()) for one in (model, with_halo))
    np.testing.assert_array_equal(inside["features"], whole["features"][:, 2:6, 2:6])
    np.testing.assert_array_equal(inside["weight"], columns["weight"][:, 2:6, 2:6])


def test_positions_are_counted_row_by_row() -> None:
    grid = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    positions = torch.tensor([[0, 7], [19, 5]])
    found = gather_positions(grid, positions)
    assert found.shape == (2, 3, 2, 1)
    assert torch.equal(found[0, :, 1, 0], grid[0, :, 1, 2])
    assert torch.equal(found[1, :, 0, 0], grid[1, :, 3, 4])
