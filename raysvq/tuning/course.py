"""What a trial tells as it goes: the mean of its trainings' figures so far, look by look."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from raysvq.settings import Settings, TrainingSettings

LOOKS = 6  # at a trial of one training, as it goes
RAN_AWAY = 0.0  # figure that a training which ran away is ranked by


def told_within(settings: Settings) -> bool:
    """Whether a trial tells how its training goes; else, of each training, how it ended."""
    tuning, training = settings.tuning, settings.training
    return tuning.stop_early and tuning.repeats == 1 and training.workers == 1


def all_looks(settings: Settings) -> int:
    """Number of the last look at a trial with these settings."""
    return LOOKS if told_within(settings) else settings.tuning.repeats


@dataclass(frozen=True)
class _Validation:
    step: int
    figure: float
    selection: float | None  # what a training keeps its best model by


class Course:
    """The looks at one trial."""

    def __init__(self, settings: Settings) -> None:
        """At a trial with these settings."""
        self._training = settings.training
        self._within = told_within(settings)
        self._repeats = settings.tuning.repeats
        self._last = all_looks(settings)
        self.every = _between_validations(settings.training) if self._within else self._own
        self._looks: list[tuple[int, float, float]] = []  # number, share done, figure
        self._seconds = 0.0
        self._began = time.monotonic()
        self._finished: list[float] = []  # figures of trainings
        self._validations: list[_Validation] = []  # of the training that runs

    @property
    def keeps(self) -> bool:
        """Whether the training would by itself have validated, and might keep, what was validated last."""
        return self._is_own(self._validations[-1].step)

    def begin_training(self) -> None:
        """From here on the time counts."""
        self._began = time.monotonic()

    def validated(self, figure: float, selection: float | None) -> dict[str, Any] | None:
        """Take what the next validation came to; what to tell of it, None for nothing."""
        steps = self._training.steps
        step = min((len(self._validations) + 1) * self.every, steps)
        self._validations.append(_Validation(step, figure, selection))
        look = step * LOOKS // steps
        if not self._within or step == steps or look <= self._newest():
            return None
        return self._tell(look, step / steps, [self._value()])

    def end_training(self, seconds: float) -> dict[str, Any]:
        """What to tell of a training that has ended and took so long."""
        self._finished.append(self._value())
        self._validations.clear()
        done = len(self._finished)
        look = self._last if done == self._repeats else done
        self._seconds += seconds
        self.begin_training()
        return self._tell(look, done / self._repeats, self._finished)

    def fail(self, problem: str) -> dict[str, Any]:
        """What to tell of a trial that cannot come to its end."""
        return self._tell(self._last, 1.0, [RAN_AWAY], problem=problem)

    def _newest(self) -> int:
        return self._looks[-1][0] if self._looks else 0

    @property
    def _own(self) -> int:
        return self._training.validate_every

    def _value(self) -> float:
        """The figure of the model that a training would keep by itself."""
        kept = [one for one in self._validations if self._is_own(one.step)] or self._validations[-1:]
        return max(kept, key=lambda one: (one.selection or 0.0, one.step)).figure

    def _is_own(self, step: int) -> bool:
        return step % self._own == 0 or step == self._training.steps

    def _tell(self, look: int, share: float, figures: list[float], problem: str = "") -> dict[str, Any]:
        figure = sum(figures) / len(figures)
        if not problem:
            self._looks.append((look, share, figure))
        return {
            "look": look,
            "figure": figure,
            "figures": list(figures),
            "looks": list(self._looks),
            "seconds": round(self._seconds + time.monotonic() - self._began, 1),
            "problem": problem,
        }


def _between_validations(training: TrainingSettings) -> int:
    """Steps, so that a training's own are among them and, where that can be, each look finds a new one."""
    own, most = training.validate_every, -(-training.steps // LOOKS)
    least = -(-own // most)
    fallback = own if own < training.steps else most
    return next((own // parts for parts in range(least, 2 * least + 1) if own % parts == 0), fallback)
