"""Learning curves of trials, and ASHA, which compares them and stops the weak trials.

A rung is a point of the curve at which trials are compared. A trial of one training reaches RUNGS of them
as the training goes; a trial of several trainings, each on another draw of the split, reaches one at the
end of each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from raysvq.settings import Settings, TrainingSettings

RUNGS = 6  # rungs of a trial of one training
DIVERGED = 0.0  # value of a trial whose training failed


def reports_within(settings: Settings) -> bool:
    """Whether a trial reports during its training; else it reports at the end of each training."""
    tuning, training = settings.tuning, settings.training
    return tuning.early_stopping and tuning.repeats == 1 and training.workers == 1


def rungs(settings: Settings) -> int:
    """The last rung of a trial with these settings."""
    return RUNGS if reports_within(settings) else settings.tuning.repeats


@dataclass(frozen=True)
class _Validation:
    step: int
    value: float
    selection: float | None  # `raysvq.training.trainer.selection`


class LearningCurve:
    """The curve of one trial: the mean value over its trainings so far, rung by rung."""

    def __init__(self, settings: Settings) -> None:
        """Start the curve of a trial with these settings."""
        self._training = settings.training
        self._within = reports_within(settings)
        self._repeats = settings.tuning.repeats
        self._last = rungs(settings)
        own = settings.training.validate_every
        self.validate_every = _between_validations(settings.training) if self._within else own
        self._points: list[tuple[int, float, float]] = []  # rung, share of the trainings done, value
        self._seconds = 0.0
        self._began = time.monotonic()
        self._finished: list[float] = []  # values of trainings
        self._validations: list[_Validation] = []  # of the current training

    @property
    def selectable(self) -> bool:
        """Whether the training itself would have validated the last model, so that it may be selected."""
        return self._is_own(self._validations[-1].step)

    def begin_training(self) -> None:
        """Start the clock of a training."""
        self._began = time.monotonic()

    def add_validation(self, value: float, selection: float | None) -> dict[str, Any] | None:
        """Add the next validation. The result to report, or None."""
        steps = self._training.steps
        step = min((len(self._validations) + 1) * self.validate_every, steps)
        self._validations.append(_Validation(step, value, selection))
        rung = step * RUNGS // steps
        newest = self._points[-1][0] if self._points else 0
        if not self._within or step == steps or rung <= newest:
            return None
        return self._result(rung, step / steps, [self._selected()])

    def end_training(self, seconds: float) -> dict[str, Any]:
        """The result to report when a training has ended and took so long."""
        self._finished.append(self._selected())
        self._validations.clear()
        done = len(self._finished)
        rung = self._last if done == self._repeats else done
        self._seconds += seconds
        self.begin_training()
        return self._result(rung, done / self._repeats, self._finished)

    def fail(self, error: str) -> dict[str, Any]:
        """The result to report for a trial that failed."""
        return self._result(self._last, 1.0, [DIVERGED], error=error)

    def _selected(self) -> float:
        """The value of the model that the training would select."""
        own = [one for one in self._validations if self._is_own(one.step)] or self._validations[-1:]
        return max(own, key=lambda one: (one.selection or 0.0, one.step)).value

    def _is_own(self, step: int) -> bool:
        return step % self._training.validate_every == 0 or step == self._training.steps

    def _result(self, rung: int, share: float, values: list[float], error: str = "") -> dict[str, Any]:
        value = sum(values) / len(values)
        if not error:
            self._points.append((rung, share, value))
        return {
            "rung": rung,
            "value": value,
            "values": list(values),
            "curve": list(self._points),
            "seconds": round(self._seconds + time.monotonic() - self._began, 1),
            "error": error,
        }


def _between_validations(training: TrainingSettings) -> int:
    """Steps between validations.

    A training's own validations are among them and, where possible, each rung finds a new one.
    """
    own, longest = training.validate_every, -(-training.steps // RUNGS)
    least = -(-own // longest)
    fallback = own if own < training.steps else longest
    return next((own // parts for parts in range(least, 2 * least + 1) if own % parts == 0), fallback)


class Asha(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020) as Ray Tune has it, but for two points.

    Trial 0, with the base settings, is never stopped: the others are compared with it at the end. Trials
    that ended before a restart count at their rungs, as Ray Tune's own restore is not used (see
    `raysvq.tuning.runner`).
    """

    def __init__(self, last: int, reduction: int) -> None:
        """For trials whose last rung is `last`.

        Args:
            reduction: at rungs 1, `reduction`, `reduction`², … a trial goes on if it is among the best 1 in
                `reduction`.
        """
        super().__init__(
            time_attr="rung",
            metric="value",
            mode="max",
            max_t=last,
            grace_period=1,
            reduction_factor=reduction,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Called by Ray Tune."""
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["number"] == 0 else decision

    def add_ended(self, number: int, result: Mapping[str, Any]) -> None:
        """Compare the others with a trial that has ended, too."""
        ended: Any = SimpleNamespace(trial_id=f"ended-{number}", config={"number": number})
        self.on_trial_add(None, ended)  # type: ignore[arg-type]  # the controller is not used
        for rung, _, value in result["curve"]:
            self.on_trial_result(None, ended, {"rung": rung, "value": value})
        self.on_trial_complete(None, ended, dict(result))  # type: ignore[arg-type]


def scheduler_for(settings: Settings) -> Asha | None:
    """What stops weak trials; None where no trial is to be stopped before its end."""
    last = rungs(settings)
    if not settings.tuning.early_stopping or last == 1:
        return None
    return Asha(last, reduction=3 if reports_within(settings) else 2)
