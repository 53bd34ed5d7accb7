"""Optuna's samplers through Ray Tune's `OptunaSearch`: which settings the next trial has.

Samplers that look at no result (`qmc`, `random`, `grid`) draw all points before the first trial starts, and
hand them to the search as points to evaluate. So each is known to be valid, and the same seed gives the same
trials in the same order, however many run at once. Asked one at a time as trials end, Optuna 5 would draw
the first concurrent Sobol points independently, and its grid would take points to evaluate for its own.

`tpe` draws as trials start, and gets results as they end. What it suggests depends on which trials have
ended by then: with several at once, on timing. With `tuning.max_concurrent_trials=1` the same seed gives the
same trials; a sweep that goes on after an interruption knows the results so far, but draws anew.

What `OptunaSearch` of Ray 2.60 lacks and `TrialSearch` adds: evaluated rewards for a define-by-run space
(needed for `when`), points outside of the space (the base may be one), numbers by which a restart finds
trials again, and no second trial with the settings of an earlier one.
"""

from __future__ import annotations

import json
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from raysvq.errors import SettingsError
from raysvq.evaluation.leaderboard import Point
from raysvq.settings import Settings, TuningSettings, digest
from raysvq.tuning.space import Space
from raysvq.tuning.state import SweepState

_TRIES = 50  # draws without a new point before a space counts as used up
_STUDY = "sweep"


def sampler_of(tuning: TuningSettings) -> optuna.samplers.BaseSampler:
    """Optuna's sampler of that name. A grid needs none."""
    if tuning.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=tuning.seed)
    if tuning.sampler != "qmc":
        return optuna.samplers.RandomSampler(tuning.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(scramble=True, seed=tuning.seed)


def first_points(space: Space, tuning: TuningSettings) -> list[Point]:
    """The points fixed before the first trial: the base, `points_to_evaluate`, then drawn ones.

    No two of them have the same settings. With `tpe` none is drawn here.

    Raises:
        SettingsError: a point is not valid, or there are more than `tuning.trials`, drawn ones not counted.
    """
    searched = {parameter.name for parameter in space.parameters}
    for point in tuning.points_to_evaluate:
        if not searched.issuperset(point):
            raise SettingsError(
                f"setting `tuning.points_to_evaluate`: {point!r} sets what section `search` does not vary;"
                f" expected {', '.join(sorted(searched))}"
            )
    points = _different(space, [{}, *tuning.points_to_evaluate])
    if tuning.sampler == "grid":
        points = _different(space, [*points, *space.grid()])
    if len(points) > tuning.trials:
        raise SettingsError(
            f"setting `tuning.trials`: {tuning.trials} trials, and there are {len(points)} points with the"
            " base; raise it, or search less"
        )
    if tuning.sampler in ("qmc", "random"):
        return _drawn(space, points, tuning)
    return points


def _different(space: Space, points: Sequence[Point]) -> list[Point]:
    """Points without those that repeat the settings of an earlier one."""
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(digest(space.settings(point)), point)
    return list(found.values())


def _drawn(space: Space, points: list[Point], tuning: TuningSettings) -> list[Point]:
    study = _study(sampler_of(tuning), optuna.storages.InMemoryStorage())
    for _ in range(_TRIES * tuning.trials):
        if len(points) == tuning.trials:
            break
        trial = study.ask()
        points = _different(space, [*points, space.suggest(trial)])
        study.tell(trial, 0.0)  # Optuna's QMC fixes its space at the first finished trial
    return points


def _study(sampler: optuna.samplers.BaseSampler, storage: optuna.storages.BaseStorage) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, storage=storage, study_name=_STUDY, direction="maximize")


class TrialSearch(Searcher):
    """Suggests `{"number": …, "point": …}` to Ray Tune: fixed points without a result, then new ones."""

    def __init__(
        self,
        space: Space,
        points: Sequence[Point],
        results: Mapping[int, Mapping[str, Any]],
        trials: int,
        state: SweepState,
        prepare: Callable[[Settings], None],
    ) -> None:
        """Start with earlier points and results.

        Args:
            points: of trials 0, 1, …, whether they have ended or not.
            results: of the trials that have ended, by number: Optuna's evaluated rewards.
            trials: number of all trials, ended ones included; fewer if the points are fewer.
            state: keeps the points that are suggested.
            prepare: called with the settings of a trial before it starts.
        """
        super().__init__(metric="value", mode="max")
        self.points = list(points)
        self.trials = trials if space.base.tuning.sampler == "tpe" else len(points)
        self._space, self._state, self._prepare = space, state, prepare
        self._written = 0  # number of points
        self._used_up = False  # whether the space has no new point
        self._waiting = deque(number for number in range(len(points)) if number not in results)
        self._seen = {self._key(point) for point in points}
        self._asked: dict[str, str] = {}  # Ray Tune's id of a trial -> its id in the study
        storage = optuna.storages.InMemoryStorage()
        sampler = sampler_of(space.base.tuning)
        self._study = _study(sampler, storage)
        self._optuna = OptunaSearch(
            space.suggest, metric="value", mode="max", sampler=sampler, storage=storage, study_name=_STUDY
        )
        for number, result in results.items():
            if found := space.parameters_of(self.points[number]):
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params={one.name: value for one, value in found.items()},
                        distributions={one.name: one.distribution() for one in found},
                        value=result["value"],
                    )
                )

    def suggest(self, trial_id: str) -> Any:
        """Called by Ray Tune. A configuration, or `Searcher.FINISHED`."""
        if self._waiting:
            number = self._waiting.popleft()
            self._enqueue(trial_id, number)
        elif len(self.points) < self.trials and self._ask(trial_id):
            number = len(self.points) - 1
        else:
            self._used_up = True
            return Searcher.FINISHED
        if self._written < len(self.points):
            self._state.write_points(self.points)
            self._written = len(self.points)
        with suppress(SettingsError):  # the trial will fail with it
            settings = self._space.settings(self.points[number])
            if settings.training.workers == 1:
                self._prepare(settings)
        return {"number": number, "point": self.points[number]}

    @property
    def exhausted(self) -> bool:
        """Whether no point is left to suggest."""
        return self._used_up or (not self._waiting and len(self.points) >= self.trials)

    def _enqueue(self, trial_id: str, number: int) -> None:
        """Give Optuna a point that it did not draw, unless it is outside of the space."""
        found = self._space.parameters_of(self.points[number])
        if found is not None:
            self._study.enqueue_trial({one.name: value for one, value in found.items()})
            self._asked[trial_id] = trial_id
            self._optuna.suggest(trial_id)

    def _ask(self, trial_id: str) -> bool:
        """Whether Optuna has suggested a new point."""
        for attempt in range(_TRIES):
            asked = f"{trial_id}-{attempt}"
            point = self._optuna.suggest(asked)
            if point is not None and self._key(point) not in self._seen:
                self.points.append(point)
                self._seen.add(self._key(point))
                self._asked[trial_id] = asked
                return True
            self._optuna.on_trial_complete(asked, error=True)
        return False

    def _key(self, point: Point) -> str:
        try:
            return digest(self._space.settings(point))
        except SettingsError:
            return json.dumps(point, sort_keys=True)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called by Ray Tune."""
        if trial_id in self._asked:
            self._optuna.on_trial_result(self._asked[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called by Ray Tune."""
        if trial_id in self._asked:
            self._optuna.on_trial_complete(self._asked[trial_id], result, error)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle nothing: Ray Tune writes a file that is not read, and credentials must stay out of it."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write the file that Ray Tune expects, empty: nothing is restored from it."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Not used."""
        raise NotImplementedError
