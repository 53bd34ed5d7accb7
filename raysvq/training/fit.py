"""The training itself, on one rank: steps, validations, checkpoints. Knows no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysvq.errors import TrainingError
from raysvq.model.collective import mean_over_ranks
from raysvq.model.network import SSVQVAE
from raysvq.model.objective import Loss, objective
from raysvq.model.quantizer import perplexity
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.training.batches import Batch
from raysvq.training.checkpoint import Progress
from raysvq.training.schedule import learning_rate, next_stop

IMPLAUSIBLE = 1e4  # a loss this many times the first one has run away
REPORT_EVERY_S = 10.0

Say = Callable[[str], None]
Validate = Callable[[ImageScorer], dict[str, Any]]  # as `validation.validate`


def fit(trainer: Trainer, batches: Iterator[Batch], validate: Validate, report: Callable[[], None]) -> None:
    """Train to `training.steps`; `report` is called after each validation, on every rank.

    Raises:
        TrainingError: the loss ran away, or no normal validation image could be read.
    """
    settings, progress = trainer.settings, trainer.progress
    scorer = ImageScorer(trainer.model, settings, settings.scoring, trainer.device)
    while progress.step < settings.training.steps:
        trainer.run(batches, next_stop(progress.step, settings.training))
        trainer.model.eval()
        outcome = validate(scorer)
        if all(outcome["anomalous"]):
            raise TrainingError(
                "no normal validation image could be read, and the threshold is fitted on them;"
                f" {len(outcome['unreadable'])} failed, such as {outcome['unreadable'][:1]}"
            )
        trainer.close_interval(outcome)
        report()


def make_optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Adam over what learns."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(learning, settings.training.learning_rate)


class Trainer:
    """Steps from one validation to the next, and keeps the record of them."""

    def __init__(
        self,
        model: SSVQVAE,
        optimiser: torch.optim.Optimizer,
        settings: Settings,
        progress: Progress,
        say: Say | None = None,
        network: nn.Module | None = None,
    ) -> None:
        """Make a trainer.

        Args:
            progress: is kept up to date.
            say: takes lines of progress; None on ranks that keep quiet.
            network: the model as it is called, wrapped for data-parallel training; None: the model.
        """
        self.model = model
        self.optimiser = optimiser
        self.settings = settings
        self.progress = progress
        self.say = say
        self.network = network or model
        self.device = model.mean.device
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
            if self.say and now - told > REPORT_EVERY_S:
                told = now
                self.say(self._line())
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
        if self.say:
            self.say(self._line())

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
