"""Steps, the watch over them, and the record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from raysvq.errors import TrainingError
from raysvq.model.network import build_network
from raysvq.settings import Settings, TrainingSettings
from raysvq.training.checkpoint import TrainingState
from raysvq.training.data_loading import Batch
from raysvq.training.trainer import (
    READ_EVERY,
    Trainer,
    best_step,
    learning_rate,
    make_optimiser,
    may_be_selected,
    next_stop,
    out_of_patience,
    training_precision,
)

Batches = Callable[..., Iterator[Batch]]
Build = Callable[..., Settings]
OUTCOME = {"image_scores": [], "anomalous": [], "auroc": 0.75, "pixel_threshold": 1.0, "unreadable": []}


def _trainer(settings: Settings, state: TrainingState | None = None, progress: Any = None) -> Trainer:
    model = build_network(settings)
    return Trainer(model, make_optimiser(model, settings), settings, state or TrainingState(), progress)


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
    assert trainer.state.step == 7


def test_an_ema_codebook_follows_normal_tiles_alone(small: Build, batches: Batches) -> None:
    settings = small(model={"threshold_dead_code": 0})
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


def test_an_unlabelled_tile_that_is_trimmed_leaves_no_trace(small: Build, batches: Batches) -> None:
    settings = small(model={"threshold_dead_code": 0}, objective={"trim": 0.4})
    batch = next(batches(outliers=0))
    batch.pixels[2] *= 30
    unlabelled = torch.tensor([1, 2, 3])
    states = []
    for worse in (1.0, 2.0):
        pixels = batch.pixels.clone()
        pixels[2] *= worse
        torch.manual_seed(5)
        trainer = _trainer(settings)
        trainer.run(iter([Batch(pixels, 0, None, unlabelled)]), 1)
        assert int(trainer.used.sum()) == 5 * 16
        states.append(torch.cat([value.flatten() for value in trainer.model.state_dict().values()]))
    torch.testing.assert_close(*states)


def test_an_interval_is_put_on_record_and_said(small: Build, batches: Batches) -> None:
    lines: list[str] = []
    trainer = _trainer(small(), progress=lines.append)
    data = batches()
    for stop in (10, 20):
        trainer.run(data, stop)
        trainer.close_interval(OUTCOME)
    first, last = trainer.state.history
    assert (first["step"], last["step"]) == (10, 20)
    assert last["validation_auroc"] == 0.75
    assert last["loss"] == pytest.approx(0.5 * last["normal"] + 0.5 * last["outlier"], rel=1e-5)
    assert last["learning_rate"] == learning_rate(19, trainer.settings.training)
    assert 1 <= last["perplexity"] <= last["codes_used"] + 1e-3 <= 16.1
    assert sum(trainer.state.codebook_usage) == 10 * 6 * 16
    assert lines[-1].startswith("step 20/20")
    assert "validation AUROC 0.750" in lines[-1]


def test_without_outliers_the_record_says_so(small: Build, batches: Batches) -> None:
    trainer = _trainer(small())
    trainer.run(batches(outliers=0), 3)
    trainer.close_interval(OUTCOME | {"auroc": None})
    assert trainer.state.history[0]["outlier"] is None
    assert trainer.losses["loss"] == trainer.losses["normal"]


def test_negation_that_runs_away_is_stopped_with_the_settings_named(small: Build, batches: Batches) -> None:
    settings = small(
        objective={"form": "negation", "eta": 0.1}, training={"steps": 5000, "learning_rate": 0.05}
    )
    trainer = _trainer(settings)
    with pytest.raises(TrainingError) as failure:
        trainer.run(batches(), 5000)
    message = str(failure.value)
    assert trainer.state.step < 1000
    (step,) = map(int, re.findall(r"at step (\d+)", message))
    assert 0 <= trainer.state.step - step < READ_EVERY
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
    state = TrainingState(step=10, history=[{"loss": 1e-9}])
    trainer = _trainer(small(), state)
    batch = next(batches())
    batch.pixels[:] *= 1e4
    with pytest.raises(TrainingError, match="at step 11"):
        trainer.run(iter([batch]), 11)


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_is_that_of_encoder_and_decoder_alone(
    small: Build, batches: Batches, precision: str, expected: torch.dtype
) -> None:
    trainer = _trainer(small(training={"precision": precision}))
    seen: list[torch.dtype] = []
    for module in (trainer.model.encoder, trainer.model.decoder, trainer.model.quantizer):
        module.register_forward_hook(
            lambda _, __, made: seen.append(
                made.dtype if isinstance(made, torch.Tensor) else made.distances.dtype
            )
        )
    trainer.run(batches(), 1)
    assert seen == [expected, torch.float32, expected]  # in the order they are called
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert trainer.state.precision == precision


def test_training_in_bfloat16_brings_the_loss_down_as_far(small: Build, batches: Batches) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(3)
        training = {"steps": 60, "learning_rate": 3e-3, "precision": precision}
        trainer = _trainer(small(training=training, model={"threshold_dead_code": 0}))  # no draws
        trainer.run(batches(), 60)
        losses.append(trainer.losses["reconstruction"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_auto_is_float32_on_a_cpu(small: Build) -> None:
    assert training_precision(small().training, torch.device("cpu")) == "float32"


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
        step = next_stop(step, settings.training)
        stops.append(step)
    assert stops == [10, 20, 25]
    assert next_stop(13, settings.training) == 20


def test_the_best_of_equals_is_the_later_one_and_without_outliers_the_last() -> None:
    rows = [
        {"step": step, "validation_auroc": auroc} for step, auroc in [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.8)]
    ]
    assert best_step(rows) == 3
    assert best_step([row | {"validation_auroc": None} for row in rows]) == 4


@pytest.mark.parametrize(
    "aurocs", [[None, None, None], [0.5, None, 0.4], [0.5, 0.7, 0.7], [0.0, None, 0.0], [None, 0.0, None]]
)
def test_the_model_that_is_selected_was_one_that_might_be(aurocs: list[float | None]) -> None:
    state = TrainingState()
    candidates = []
    for auroc in aurocs:
        state.step += 10
        if may_be_selected(state, auroc, 30):
            candidates.append(state.step)
        state.history.append({"step": state.step, "validation_auroc": auroc})
    assert best_step(state.history) in candidates
    assert 10 not in candidates or aurocs[0] is not None
    if aurocs[1:] == [None, 0.4]:
        assert candidates == [10]


@pytest.mark.parametrize(
    ("aurocs", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.6, 0.5], 1, True),
        ([0.6, 0.6], 1, True),
        ([0.6, 0.5], 2, False),
        ([0.6, 0.5, 0.55], 2, True),
        ([0.6, 0.5, 0.7], 2, False),
        ([0.6, 0.5, 0.4, 0.3], None, False),
        ([None, None, None], 1, False),
        ([0.6, None, None], 1, False),
        ([0.6, None, 0.5], 1, True),
    ],
)
def test_patience_ends_after_validations_without_a_better_one(
    aurocs: list[float | None], patience: int | None, over: bool
) -> None:
    rows = [{"step": step, "validation_auroc": auroc} for step, auroc in enumerate(aurocs)]
    assert out_of_patience(rows, patience) == over
