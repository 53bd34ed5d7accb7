"""The training loop's parts, in one process: pace, steps, watch, batches, start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ray.train
import torch

from raysvq.errors import TrainingError
from raysvq.model.network import SSVQVAE
from raysvq.settings import Settings, TrainingSettings
from raysvq.training.checkpoint import Progress
from raysvq.training.loop import Batch, _batches, _next_stop, _start_from_data, _Trainer, learning_rate

Batches = Callable[..., Iterator[Batch]]
Build = Callable[..., Settings]
MakeShard = Callable[..., Any]
OUTCOME = {"image_scores": [], "anomalous": [], "auroc": 0.75, "pixel_threshold": 1.0, "unreadable": []}


class _Voice:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def _trainer(settings: Settings, progress: Progress | None = None, voice: Any = None) -> _Trainer:
    model = SSVQVAE(3, settings.model)
    optimiser = torch.optim.Adam(model.parameters(), settings.training.learning_rate)
    return _Trainer(model, model, optimiser, settings, progress or Progress(), voice)


def _shards(monkeypatch: pytest.MonkeyPatch, **shards: Any) -> None:
    monkeypatch.setattr(ray.train, "get_dataset_shard", shards.__getitem__)


def _tiles(count: int, offset: int = 0) -> np.ndarray:
    """Flat tiles, each of a value of its own."""
    values = (offset + np.arange(count)).astype(np.uint16)
    return np.broadcast_to(values[:, None, None, None], (count, 16, 16, 3)).copy()


def test_learning_rate_warms_up_peaks_and_ends_at_a_twentieth() -> None:
    settings = TrainingSettings(steps=1000, learning_rate=0.002)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert 0 < rates[0] < 0.002 / 10
    assert rates[20] == pytest.approx(0.002)
    assert max(rates) <= 0.002 * (1 + 1e-9)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.0001, rel=1e-2)


@pytest.mark.parametrize("steps", [1, 2, 49, 50])
def test_learning_rate_of_a_short_run_is_never_zero(steps: int) -> None:
    settings = TrainingSettings(steps=steps, learning_rate=1.0)
    assert all(0.05 <= learning_rate(step, settings) <= 1 for step in range(steps))


def test_stops_at_every_validation_and_at_the_end(small: Build) -> None:
    settings = small(training={"steps": 25, "validate_every": 10})
    stops, step = [], 0
    while step < 25:
        step = _next_stop(step, settings)
        stops.append(step)
    assert stops == [10, 20, 25]
    assert _next_stop(13, settings) == 20


def test_training_brings_the_loss_down(small: Build, batches: Batches) -> None:
    trainer = _trainer(small(training={"steps": 60, "learning_rate": 3e-3}))
    data = batches()
    trainer.run(data, 1)
    first = trainer.losses
    trainer.run(data, 60)
    assert trainer.losses["reconstruction"] < first["reconstruction"]  # type: ignore[operator]
    assert trainer.losses["loss"] < first["loss"]  # type: ignore[operator]


def test_steps_at_the_pace_of_the_schedule(small: Build, batches: Batches) -> None:
    settings = small()
    trainer = _trainer(settings)
    trainer.run(batches(), 7)
    assert trainer.optimiser.param_groups[0]["lr"] == learning_rate(6, settings.training)
    assert trainer.progress.step == 7
    assert trainer.progress.tiles_per_s > 0


def test_an_ema_codebook_follows_normal_tiles_alone(small: Build, batches: Batches) -> None:
    settings = small(model={"revive_below": 0})
    batch = next(batches())
    other = Batch(batch.pixels.clone(), batch.outliers, batch.weight)
    other.pixels[-batch.outliers :] = 0.0
    codebooks = []
    for taken in (batch, other):
        torch.manual_seed(5)
        trainer = _trainer(settings)
        trainer.run(iter([taken]), 1)
        codebooks.append(trainer.model.quantizer.codebook)
        assert int(trainer.used.sum()) == 6 * 16
    assert torch.equal(*codebooks)


def test_an_interval_is_put_on_record_and_said(small: Build, batches: Batches) -> None:
    voice = _Voice()
    trainer = _trainer(small(), voice=voice)
    data = batches()
    for stop in (10, 20):
        trainer.run(data, stop)
        trainer.close_interval(OUTCOME)
    first, last = trainer.progress.history
    assert (first["step"], last["step"]) == (10, 20)
    assert last["validation_auroc"] == 0.75
    assert last["loss"] == pytest.approx(0.5 * last["normal"] + 0.5 * last["outlier"], rel=1e-5)
    assert 1 <= last["perplexity"] <= last["codes_used"] + 1e-3 <= 16.1
    assert sum(trainer.progress.codebook_usage) == 10 * 6 * 16
    assert voice.lines[-1].startswith("step 20/20")
    assert "validation AUROC 0.750" in voice.lines[-1]


def test_without_outliers_the_record_says_so(small: Build, batches: Batches) -> None:
    trainer = _trainer(small())
    trainer.run(batches(outliers=0), 3)
    trainer.close_interval(OUTCOME | {"auroc": None})
    assert trainer.progress.history[0]["outlier"] is None
    assert trainer.losses["loss"] == trainer.losses["normal"]


def test_negation_that_runs_away_is_stopped_with_the_settings_named(small: Build, batches: Batches) -> None:
    settings = small(
        objective={"form": "negation", "eta": 0.1}, training={"steps": 5000, "learning_rate": 0.05}
    )
    trainer = _trainer(settings)
    with pytest.raises(TrainingError) as failure:
        trainer.run(batches(), 5000)
    message = str(failure.value)
    assert trainer.progress.step < 1000
    assert f"at step {trainer.progress.step}" in message
    for name in ("objective.form=negation", "training.learning_rate=0.05", "objective.eta=0.1"):
        assert name in message
    assert "try objective.form=hinge" in message


def test_the_hinge_survives_the_same_settings(small: Build, batches: Batches) -> None:
    settings = small(objective={"form": "hinge", "eta": 0.1}, training={"steps": 300, "learning_rate": 0.05})
    trainer = _trainer(settings)
    trainer.run(batches(), 300)
    assert abs(trainer.losses["loss"]) < 10  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_stopped_at_once(small: Build, batches: Batches, value: float) -> None:
    batch = next(batches())
    batch.pixels[0, 0, 0, 0] = value
    trainer = _trainer(small())
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 1"):
        trainer.run(iter([batch]), 1)


def test_a_resumed_run_is_watched_by_its_first_loss(small: Build, batches: Batches) -> None:
    progress = Progress(step=10, history=[{"loss": 1e-9}])
    trainer = _trainer(small(), progress)
    batch = next(batches())
    batch.pixels[:] *= 1e4
    with pytest.raises(TrainingError, match="at step 11"):
        trainer.run(iter([batch]), 11)


def test_batches_keep_their_ratio_and_weights_stay_with_their_tiles(
    small: Build, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.broadcast_to((np.arange(9, dtype=np.float32) / 10)[:, None, None], (9, 4, 4)).copy()
    outliers = {"tile": _tiles(9, 1000), "weight": weight}
    _shards(monkeypatch, normal=make_shard({"tile": _tiles(50)}), outlier=make_shard(outliers))
    stream = _batches(small(), 9, 0, 1, torch.device("cpu"), 0)
    seen: set[int] = set()
    for _ in range(20):
        batch = next(stream)
        values = (batch.pixels[:, 0, 0, 0] * 65535).round().int().tolist()
        assert batch.outliers == 2
        assert all(value < 50 for value in values[:6])
        assert batch.weight is not None
        marks = (batch.weight[:, 0, 0] * 10).round().int()
        assert [value - 1000 for value in values[6:]] == marks.tolist()
        seen |= set(values)
    assert seen == {*range(50), *range(1000, 1009)}


def test_flips_take_the_weights_along(
    small: Build, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.random.default_rng(0).random((5, 4, 4)).astype(np.float32)
    tile = (weight.repeat(4, axis=1).repeat(4, axis=2) * 65535).astype(np.uint16)[..., None].repeat(3, axis=3)
    outliers = {"tile": tile, "weight": weight}
    _shards(monkeypatch, normal=make_shard({"tile": _tiles(8)}), outlier=make_shard(outliers))
    stream = _batches(small(), 5, 0, 1, torch.device("cpu"), 0)
    corners: set[float] = set()
    for _ in range(100):
        batch = next(stream)
        assert batch.weight is not None
        cells = batch.pixels[-batch.outliers :, 0, ::4, ::4]
        torch.testing.assert_close(cells, batch.weight, atol=1e-4, rtol=0)
        corners |= set(batch.weight[:, 0, 0].tolist())
    assert len(corners) == 4 * 5


def test_flips_can_be_turned_off(
    small: Build, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.arange(16, dtype=np.uint16)[None, :, None, None] + np.zeros((4, 16, 16, 3), np.uint16)
    _shards(monkeypatch, normal=make_shard({"tile": ramp + np.arange(16, dtype=np.uint16)[:, None] * 16}))
    stream = _batches(small(training={"flips": False}), 0, 0, 1, torch.device("cpu"), 0)
    for _ in range(10):
        pixels = next(stream).pixels
        assert bool((pixels[:, 0].diff(dim=1) > 0).all())
        assert bool((pixels[:, 0].diff(dim=2) > 0).all())


@pytest.mark.parametrize(
    ("batch_size", "share", "expected"),
    [(8, 0.25, 2), (8, 0.01, 1), (8, 0.99, 7), (2, 0.8, 1), (128, 0.5, 64), (8, 0.0, 0)],
)
def test_no_batch_is_without_normals_and_a_share_of_zero_means_no_outliers(
    small: Build,
    make_shard: MakeShard,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    share: float,
    expected: int,
) -> None:
    outliers = {"tile": _tiles(9, 1000), "weight": np.ones((9, 4, 4), np.float32)}
    _shards(monkeypatch, normal=make_shard({"tile": _tiles(50)}), outlier=make_shard(outliers))
    settings = small(training={"batch_size": batch_size, "outlier_share": share})
    batch = next(_batches(settings, 9, 0, 1, torch.device("cpu"), 0))
    assert len(batch.pixels) == batch_size
    assert batch.outliers == expected
    assert (batch.weight is None) == (expected == 0)


def test_ranks_share_the_batch_and_draw_differently(
    small: Build, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shards(monkeypatch, normal=make_shard({"tile": _tiles(50)}))
    first, second = (next(_batches(small(), 0, rank, 2, torch.device("cpu"), 0)) for rank in (0, 1))
    assert len(first.pixels) == len(second.pixels) == 4
    assert not torch.equal(first.pixels, second.pixels)


def test_start_standardises_the_input_and_places_the_codes_in_the_data(small: Build) -> None:
    settings = small()
    model = SSVQVAE(3, settings.model)

    def tiles() -> Iterator[Batch]:
        while True:
            pixels = torch.rand(64, 3, 16, 16) * torch.tensor([0.5, 0.2, 0.1])[:, None, None] + 0.3
            pixels[-16:] = 1.0  # outliers
            yield Batch(pixels, 16, torch.ones(16, 4, 4))

    stream = tiles()
    before = model.quantizer.codebook.clone()
    _start_from_data(model, stream, settings)
    torch.testing.assert_close(model.mean, torch.tensor([0.55, 0.4, 0.35]), atol=0.01, rtol=0)
    torch.testing.assert_close(model.std, torch.tensor([0.5, 0.2, 0.1]) / 12**0.5, atol=0.01, rtol=0)
    normal = next(stream).pixels[:48]
    with torch.no_grad():
        placed = float(model.distance_map(normal).mean())
        model.quantizer.codebook.copy_(before)
        assert placed < float(model.distance_map(normal).mean()) / 2


def test_start_survives_images_of_one_shade(small: Build) -> None:
    model = SSVQVAE(3, small().model)
    _start_from_data(model, iter(lambda: Batch(torch.full((64, 3, 16, 16), 0.5), 0, None), None), small())
    assert bool(torch.isfinite(model.quantizer.codebook).all())
    assert bool(torch.isfinite(model.distance_map(torch.rand(2, 3, 16, 16))).all())
