"""What a trial says as it goes: the mean of its trainings' figures so far, look by look."""

from __future__ import annotations

import time
from typing import Any

from raysvq.settings import Settings

LOOKS = 6  # of a trial of one training at its validation, at which it may be stopped
RAN_AWAY = 0.0  # figure that a training which ran away is ranked by


def told_within(settings: Settings) -> bool:
    """Whether a trial tells how its training goes; else, of each training, how it ended."""
    tuning, training = settings.tuning, settings.training
    return tuning.stop_early and tuning.repeats == 1 and training.workers == 1


class Course:
    """The looks of one trial."""

    def __init__(self, settings: Settings) -> None:
        """Of a trial with these settings."""
        self.every = settings.training.validate_every  # steps between validations
        if told_within(settings):
            self.every = min(self.every, -(-settings.training.steps // LOOKS))
        self.reported: list[dict[str, Any]] = []
        self._training = settings.training
        self._within = told_within(settings)
        self._started = time.monotonic()
        self._finished: list[float] = []  # figures of trainings
        self._looks: list[tuple[int, float]] = []  # step and figure, of the training that runs

    def look(self, figure: float) -> dict[str, Any] | None:
        """Take the figure of the next validation; what to tell of it, None for nothing yet."""
        step = min((len(self._looks) + 1) * self.every, self._training.steps)
        self._looks.append((step, figure))
        return self._tell([*self._finished, self._value()], step) if self._within else None

    def end_training(self) -> dict[str, Any]:
        """What to tell of a training that has ended; its last look has told it, if looks tell."""
        self._finished.append(self._value())
        step = self._looks[-1][0]
        self._looks.clear()
        return self.reported[-1] if self._within else self._tell(self._finished, step)

    def fail(self, problem: str) -> None:
        """The training cannot be ended."""
        self._tell([RAN_AWAY], 0)["problem"] = problem

    def _value(self) -> float:
        """The best of the looks that a training takes by itself; before those, the last one."""
        own = self._training.validate_every
        taken = [figure for step, figure in self._looks if step % own == 0 or step == self._training.steps]
        return max(taken, default=self._looks[-1][1])

    def _tell(self, figures: list[float], step: int) -> dict[str, Any]:
        metrics = {
            "look": len(self.reported) + 1,
            "step": step,
            "figure": sum(figures) / len(figures),
            "figures": list(figures),
            "seconds": round(time.monotonic() - self._started, 1),
            "problem": "",
        }
        self.reported.append(metrics)
        return metrics
