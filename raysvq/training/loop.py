"""The training loop: what runs on every Ray Train worker."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from raysvq.errors import TrainingError
from raysvq.model.collective import mean_over_ranks, take_from_first
from raysvq.model.network import SSVQVAE
from raysvq.model.objective import Loss, objective
from raysvq.model.quantizer import perplexity
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.relay import Relay
from raysvq.settings import Settings, TrainingSettings, parse_settings
from raysvq.storage import configure
from raysvq.training.checkpoint import Progress, load_model, load_optimiser, load_progress, save_checkpoint
from raysvq.training.loader import Columns, endless_batches
from raysvq.training.validation import ValidationImage, validate

START_PIXELS = 512 * 64**2  # of normal tiles, that fix the input statistics and the first codebook
START_POSITIONS = 50_000
IMPLAUSIBLE = 1e4  # a loss this many times the first one has run away
REPORT_EVERY_S = 10.0


@dataclass(frozen=True)
class Batch:
    """One step's tiles on one rank: normal first, labelled outliers last."""

    pixels: Tensor  # (B, C, H, W) in [0, 1]
    outliers: int
    weight: Tensor | None  # (outliers, H/4, W/4) marked share of each grid position


def train_on_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train to `training.steps`, reporting a checkpoint at every validation.

    Returns:
        The `history` of the whole run; or the `problem` why it cannot succeed, the same on all
        ranks: Ray Train would take an exception for a lost worker and try the same again.
    """
    try:
        return {"history": _train(config).history}
    except TrainingError as error:
        return {"problem": str(error)}


def _train(config: dict[str, Any]) -> Progress:
    configure(config["storage"])
    settings = parse_settings(config["settings"])
    images: list[ValidationImage] = config["validation"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config["threads"])
    torch.manual_seed(settings.training.seed)
    model = SSVQVAE(settings.tiles.channels, settings.model).to(device)
    optimiser = torch.optim.Adam(model.parameters(), settings.training.learning_rate)
    progress = _resume(model, optimiser)
    batches = _batches(settings, config["outlier_tiles"], rank, workers, device, progress.step)
    if progress.step == 0:
        _start_from_data(model, batches, settings)
    torch.manual_seed(settings.training.seed + 1 + rank + progress.step)
    network = ray.train.torch.prepare_model(
        model, move_to_device=False, parallel_strategy_kwargs={"broadcast_buffers": False}
    )
    relay: Relay | None = config["relay"] if rank == 0 else None
    trainer = _Trainer(model, network, optimiser, settings, progress, relay)
    scorer = ImageScorer(model, settings, settings.scoring, device)
    while progress.step < settings.training.steps:
        trainer.run(batches, _next_stop(progress.step, settings))
        outcome = validate(scorer, images, rank, settings.anomaly.pixel_quantile, settings.training.seed)
        if all(outcome["anomalous"]):
            raise TrainingError(
                "no normal validation image could be read, and the threshold is fitted on them;"
                f" {len(outcome['unreadable'])} failed, such as {outcome['unreadable'][:1]}"
            )
        trainer.close_interval(outcome)
        _report(model, optimiser, progress, rank)
    return progress


class _Trainer:
    """Steps from one validation to the next, and keeps the record of them."""

    def __init__(
        self,
        model: SSVQVAE,
        network: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        settings: Settings,
        progress: Progress,
        relay: Relay | None,
    ) -> None:
        self.model = model
        self.network = network
        self.optimiser = optimiser
        self.settings = settings
        self.progress = progress
        self.relay = relay
        self.used = torch.zeros_like(model.quantizer.counts)
        self.losses: dict[str, float | None] = {}
        self.limit = _limit(progress)

    def run(self, batches: Iterator[Batch], stop: int) -> None:
        """Take steps until `stop`."""
        self.model.train()
        self.used.zero_()
        started = told = time.monotonic()
        first = self.progress.step
        while self.progress.step < stop:
            batch = next(batches)
            loss, used = self._step(batch)
            self.used += used
            self.progress.step += 1
            self._watch(loss)
            now = time.monotonic()
            self.progress.tiles_per_s = (
                (self.progress.step - first) * self.settings.training.batch_size / (now - started)
            )
            if self.relay and now - told > REPORT_EVERY_S:
                told = now
                self.relay.say(self._line())
        self.losses = _values(loss)

    def close_interval(self, outcome: dict[str, Any]) -> None:
        """Put an interval's losses, codebook use and validation on record."""
        self.progress.validation = outcome
        self.progress.codebook_usage = self.used.tolist()
        self.progress.history.append(
            {
                "step": self.progress.step,
                **self.losses,
                "perplexity": perplexity(self.used),
                "codes_used": int((self.used > 0).sum()),
                "validation_auroc": outcome["auroc"],
            }
        )
        if self.relay:
            self.relay.say(self._line())

    def _step(self, batch: Batch) -> tuple[Loss, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.settings.training)
        output = self.network(batch.pixels)
        loss = objective(output, batch.weight, self.settings.objective)
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()
        normals = len(batch.pixels) - batch.outliers
        encoded = output.encoded[:normals].detach().movedim(1, -1).flatten(0, 2)
        used = self.model.quantizer.update(encoded, output.quantized.indices[:normals].flatten())
        return loss, used

    def _watch(self, loss: Loss) -> None:
        """Stop, on every rank alike, where the loss says that training has failed."""
        value = float(mean_over_ranks(loss.total.detach()))
        self.limit = self.limit or IMPLAUSIBLE * max(1.0, abs(value))
        if not np.isfinite(value) or abs(value) > self.limit:
            raise TrainingError(
                f"the loss is {value:.3g} at step {self.progress.step}: training has run away with"
                f" objective.form={self.settings.objective.form},"
                f" training.learning_rate={self.settings.training.learning_rate:g},"
                f" objective.eta={self.settings.objective.eta:g};"
                " try objective.form=hinge, a smaller learning rate or a larger eta"
            )

    def _line(self) -> str:
        progress, steps = self.progress, self.settings.training.steps
        left = (steps - progress.step) * self.settings.training.batch_size / max(progress.tiles_per_s, 1e-9)
        line = f"step {progress.step}/{steps}  {progress.tiles_per_s:.0f} tiles/s  {left:.0f} s left"
        if progress.history and progress.history[-1]["step"] == progress.step:
            row = progress.history[-1]
            auroc = row["validation_auroc"]
            line += (
                f"  loss {row['loss']:.4f}  codes {row['codes_used']}/{len(self.used)}"
                f"  perplexity {row['perplexity']:.0f}"
                f"  validation AUROC {'-' if auroc is None else f'{auroc:.3f}'}"
            )
        return line


def _resume(model: SSVQVAE, optimiser: torch.optim.Optimizer) -> Progress:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Progress()
    with checkpoint.as_directory() as folder:
        load_model(Path(folder), model)
        load_optimiser(Path(folder), optimiser)
        return load_progress(Path(folder))


def _batches(
    settings: Settings, outlier_tiles: int, rank: int, workers: int, device: torch.device, step: int
) -> Iterator[Batch]:
    """This rank's share of every step, at a fixed ratio of normal to outlier tiles."""
    training = settings.training
    share = training.batch_size // workers
    outliers = _outliers_a_step(share, training.outlier_share) if outlier_tiles else 0
    cache = training.cache_mib * 2**20
    seeds = [training.seed, rank, step]
    normal = endless_batches(
        ray.train.get_dataset_shard("normal"),
        share - outliers,
        cache,
        np.random.default_rng([*seeds, 0]),
        "normal",
    )
    marked: Iterator[Columns | None] = iter(lambda: None, 0)
    if outliers:
        rng = np.random.default_rng([*seeds, 1])
        marked = endless_batches(ray.train.get_dataset_shard("outlier"), outliers, cache, rng, "outlier")
    augment = np.random.default_rng([*seeds, 2])
    for normals, outlier in zip(normal, marked, strict=True):
        tiles = normals["tile"] if outlier is None else np.concatenate([normals["tile"], outlier["tile"]])
        weight = None if outlier is None else torch.from_numpy(outlier["weight"].copy()).to(device)
        pixels = to_model_input(tiles, device)
        if training.flips:
            axes = [axis for axis in (-2, -1) if augment.random() < 0.5]
            pixels = pixels.flip(axes)
            weight = None if weight is None else weight.flip(axes)
        yield Batch(pixels, outliers, weight)


def _outliers_a_step(tiles: int, share: float) -> int:
    """None for a share of 0; else at least one, and a normal tile is always left."""
    return min(tiles - 1, max(1, round(tiles * share))) if share else 0


def _start_from_data(model: SSVQVAE, batches: Iterator[Batch], settings: Settings) -> None:
    """Fix the input's mean and deviation, and place the codebook, from the first normal tiles."""
    taken: list[Tensor] = []
    while sum(len(part) for part in taken) * settings.tiles.size**2 < START_PIXELS:
        batch = next(batches)
        taken.append(batch.pixels[: len(batch.pixels) - batch.outliers])
    pixels = torch.cat(taken)
    model.mean.copy_(take_from_first(pixels.mean(dim=(0, 2, 3))))
    model.std.copy_(take_from_first(pixels.std(dim=(0, 2, 3)).clamp(min=1e-3)))
    with torch.no_grad():
        encoded = torch.cat([model.encode(part).movedim(1, -1).flatten(0, 2) for part in taken])
    chosen = torch.randperm(len(encoded), device=encoded.device)[:START_POSITIONS]
    model.quantizer.start_from(encoded[chosen], settings.training.seed)


def _report(model: SSVQVAE, optimiser: torch.optim.Optimizer, progress: Progress, rank: int) -> None:
    """Hand a checkpoint to Ray Train; every rank takes part, the first one writes."""
    auroc = progress.validation["auroc"]
    # The checkpoint to keep: best validation AUROC, the later of equals; without one, the latest.
    metrics = {"step": progress.step, "selection": (auroc or 0.0) + 1e-9 * progress.step}
    if rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), model, optimiser, progress)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear over the first 2 % of the steps, then half a cosine down to a twentieth of the peak."""
    warm_up = max(1, settings.steps // 50)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def _next_stop(step: int, settings: Settings) -> int:
    every = settings.training.validate_every
    return min((step // every + 1) * every, settings.training.steps)


def _limit(progress: Progress) -> float:
    first = progress.history[0]["loss"] if progress.history else None
    return IMPLAUSIBLE * max(1.0, abs(first)) if first is not None else 0.0


def _values(loss: Loss) -> dict[str, float | None]:
    """A step's terms as plain numbers, averaged over ranks."""
    terms = {
        "loss": loss.total,
        "normal": loss.normal,
        "outlier": loss.outlier,
        "reconstruction": loss.reconstruction,
        "commitment": loss.commitment,
    }
    return {
        name: None if term is None else float(mean_over_ranks(term.detach())) for name, term in terms.items()
    }
