"""The training loop of one rank: steps, validations, checkpoints; without Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from raysvq.errors import TrainingError, TrainingMemoryError
from raysvq.log import Line
from raysvq.model.collective import mean_over_ranks
from raysvq.model.device import Precision, has_fast_bfloat16, memory_errors_as
from raysvq.model.network import Network
from raysvq.model.objective import Loss, objective
from raysvq.model.quantizer import perplexity
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings, TrainingSettings
from raysvq.training.checkpoint import TrainingState
from raysvq.training.data_loading import Batch
from raysvq.training.export import require_normals
from raysvq.training.metrics import Pace, pace_line, validation_line

IMPLAUSIBLE = 1e4  # a loss this many times the first one counts as diverged
READ_EVERY = 16  # steps whose losses are read at once; between two readings no host waits for its GPU
REPORT_EVERY_S = 1.0

Validate = Callable[[ImageScorer], dict[str, Any]]  # such as `validation.validate`


def fit(
    trainer: Trainer,
    batches: Iterator[Batch],
    validate: Validate,
    report: Callable[[], None],
    deadline: AbstractContextManager[Any] | None = None,
) -> None:
    """Train to `training.steps`, or until patience ends; `report` is called after each validation.

    Every rank takes part and comes to the same decisions.

    Args:
        deadline: entered for every piece of a validation image that is decoded.

    Raises:
        TrainingError: the loss diverged, or no normal validation image could be read.
        TrainingMemoryError: memory is used up, perhaps on this rank alone.
    """
    settings, state = trainer.settings, trainer.state
    scorer = ImageScorer(trainer.model, settings, settings.scoring, trainer.device, deadline=deadline)
    patience = settings.training.patience
    while state.step < settings.training.steps and not out_of_patience(state.history, patience):
        with naming_memory(f"training.batch_size={settings.training.batch_size}"):
            trainer.run(batches, next_stop(state.step, settings.training))
        trainer.model.eval()
        with naming_memory(f"scoring.tile_batch={settings.scoring.tile_batch}"):
            outcome = validate(scorer)
        require_normals(outcome)
        trainer.close_interval(outcome)
        report()


def naming_memory(setting: str) -> AbstractContextManager[None]:
    """Raise TrainingMemoryError, naming the setting to lower, where memory is used up."""
    return memory_errors_as(TrainingMemoryError, f"out of memory with {setting}: set it lower")


def training_precision(settings: TrainingSettings, device: torch.device) -> Precision:
    """What encoder and decoder compute in: with `auto`, bfloat16 on GPUs that have it."""
    if settings.precision != "auto":
        return settings.precision
    return "bfloat16" if device.type == "cuda" and has_fast_bfloat16(device) else "float32"


def make_optimiser(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Adam over all parameters that require gradients; a fused one counts its steps on the device."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(learning, settings.training.learning_rate, fused=True)


class Trainer:
    """Takes steps from one validation to the next, and records them."""

    def __init__(
        self,
        model: Network,
        optimiser: torch.optim.Optimizer,
        settings: Settings,
        state: TrainingState,
        progress: Callable[[str], None] | None = None,
        network: nn.Module | None = None,
        labelled: int = 0,
    ) -> None:
        """Make a trainer.

        Args:
            state: updated in place.
            progress: takes lines of progress; None on ranks that print nothing.
            network: the model wrapped for data-parallel training; None: the model itself.
            labelled: number of outlier tiles that batches are drawn from, copies not counted.
        """
        self.model = model
        self.optimiser = optimiser
        self.settings = settings
        self.state = state
        self.labelled = labelled
        self.progress = progress
        self.network = model if network is None else network
        self.device = model.mean.device
        self.used = torch.zeros_like(model.quantizer.cluster_size)
        self.losses: dict[str, float | None] = {}
        self.pace = Pace(state.step)
        self.limit = _limit(state)
        state.precision = training_precision(settings.training, self.device)

    def run(self, batches: Iterator[Batch], stop: int) -> None:
        """Take steps until `stop`.

        Raises:
            TrainingError: the loss has diverged in one of the last `READ_EVERY` steps.
        """
        self.model.train()
        self.used.zero_()
        self.pace = Pace(self.state.step)
        reported = self.pace.started
        unread: list[Tensor] = []
        while self.state.step < stop:
            loss, used = self.step(self.pace.wait_for(batches))
            self.used += used
            self.state.step += 1
            unread.append(loss.total.detach())
            if len(unread) == READ_EVERY or self.state.step == stop:
                self._require_plausible(unread)
                unread.clear()
            self.pace.measure()
            if self.progress and self.pace.started + self.pace.seconds - reported > REPORT_EVERY_S:
                reported = self.pace.started + self.pace.seconds
                self.progress(pace_line(self.pace, self.state.step, self.settings.training))
        self.losses = _values(loss)

    def close_interval(self, outcome: dict[str, Any]) -> None:
        """Record losses, codebook use and validation of the steps since the last validation."""
        state, training = self.state, self.settings.training
        state.validation = outcome
        state.codebook_usage = self.used.tolist()
        row = {
            "step": state.step,
            "workers": state.workers,
            **self.pace.row(state.step, training.batch_size, self.device),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            **self.losses,
            "perplexity": perplexity(self.used),
            "codes_used": int((self.used > 0).sum()),
            "validation_auroc": outcome["auroc"],
        }
        state.history.append(row)
        if self.progress:
            pace = pace_line(self.pace, state.step, training)
            text = f"{pace}  {validation_line(row, len(self.used))}"
            self.progress(
                Line(text, "validation", validation_auroc=outcome["auroc"], loss=row["loss"], **pace.fields)
            )

    def step(self, batch: Batch) -> tuple[Loss, Tensor]:
        """Take a step on one batch. It reads no value back from the device.

        Returns:
            The loss, and (K,) how often each code was used, over all ranks.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.state.step, self.settings.training)
        # Codebook and losses stay in float32.
        half = self.state.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            output = self.network(batch.pixels)
        losses = self.model.losses(output, self.settings.objective.beta)
        loss = objective(losses, batch.weight, self.settings.objective, batch.unlabelled)
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()
        normals = len(batch.pixels) - batch.outliers
        encoded, indices = output.encoded[:normals].detach(), output.quantized.indices[:normals]
        if loss.kept is not None:
            encoded, indices = encoded[loss.kept], indices[loss.kept]
        positions = encoded.movedim(1, -1).flatten(0, 2)
        labelled = self.labelled if batch.outliers else 0
        return loss, self.model.update_codebook(positions, indices.flatten(), labelled)

    def _require_plausible(self, losses: list[Tensor]) -> None:
        """Raise, on every rank alike, where one of the last losses has diverged."""
        values = mean_over_ranks(torch.stack(losses)).tolist()
        self.limit = self.limit or IMPLAUSIBLE * max(1.0, abs(values[0]))
        for step, value in enumerate(values, self.state.step - len(values) + 1):
            if not math.isfinite(value) or abs(value) > self.limit:
                raise TrainingError(
                    f"the loss is {value:.3g} at step {step}: training has run away with"
                    f" objective.form={self.settings.objective.form},"
                    f" training.learning_rate={self.settings.training.learning_rate:g},"
                    f" objective.eta={self.settings.objective.eta:g};"
                    " try objective.form=hinge, a smaller learning rate or a larger eta"
                )


def _limit(state: TrainingState) -> float:
    first = state.history[0]["loss"] if state.history else None
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
    present = {name: term.detach() for name, term in terms.items() if term is not None}
    values = mean_over_ranks(torch.stack(list(present.values()))).tolist()
    return dict.fromkeys(terms) | dict(zip(present, values, strict=True))


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear over the first 2 % of the steps, then half a cosine down to a twentieth of the peak."""
    warm_up = max(1, settings.steps // 50)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def next_stop(step: int, settings: TrainingSettings) -> int:
    """The step of the next validation."""
    return min((step // settings.validate_every + 1) * settings.validate_every, settings.steps)


def selection(row: dict[str, Any]) -> float:
    """Key of model selection for a row of the history: validation AUROC, then the step."""
    return (row["validation_auroc"] or 0.0) + 1e-9 * row["step"]


def best_step(history: list[dict[str, Any]]) -> int:
    """The step whose model is selected."""
    step: int = max(history, key=selection)["step"]
    return step


def may_be_selected(state: TrainingState, auroc: float | None, steps: int) -> bool:
    """Whether `best_step` may select the model that stands at this step.

    Args:
        auroc: of its validation; without one the last of the `steps` is selected, if any.
    """
    if auroc is None:
        return state.step == steps
    row = {"step": state.step, "validation_auroc": auroc}
    return best_step([*state.history, row]) == state.step


def out_of_patience(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` validations with an AUROC brought no better one than those before."""
    aurocs = [row["validation_auroc"] for row in history if row["validation_auroc"] is not None]
    if patience is None or not aurocs:
        return False
    return len(aurocs) - 1 - aurocs.index(max(aurocs)) >= patience
