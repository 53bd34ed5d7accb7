"""The search space of a sweep: which settings vary, over what, and the points that trials take.

All points are drawn before the first trial starts, by a sampler that looks at no result: the same seed
gives the same trials in the same order, however many run at once, and each is known to be a valid setting.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from raysvq.errors import SettingsError
from raysvq.settings import Settings, describe, digest, parse_settings

Point = dict[str, Any]  # a setting's dotted name -> its value; the same keys as a `--set`

_RANGES = ("uniform", "log_uniform", "int", "log_int")
_KINDS = (*_RANGES, "choice")
_SECTIONS = ("tiles.", "model.", "objective.", "training.", "anomaly.")  # that a trial can differ in
_TRIES = 50  # draws for each point wanted, before a space counts as used up
_GRID_STEPS = 4  # points that a grid takes from a range


@dataclass(frozen=True)
class Parameter:
    """A setting that varies."""

    name: str
    kind: str  # one of _KINDS
    values: tuple[Any, ...]  # the choices, or the range's two ends
    when: tuple[tuple[str, Any], ...] = ()  # settings that must have these values for it to matter

    def matters(self, point: Mapping[str, Any], base: Settings) -> bool:
        """Whether the point, or else the base, has what `when` asks for."""
        return all(point.get(name, value_of(base, name)) == value for name, value in self.when)

    def suggest(self, trial: optuna.trial.BaseTrial) -> Any:
        """A value of this trial's."""
        if self.kind == "choice":
            return self.values[trial.suggest_categorical(self.name, range(len(self.values)))]
        low, high = self.values
        if self.kind.endswith("int"):
            return trial.suggest_int(self.name, low, high, log=self.kind == "log_int")
        found = trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")
        return float(f"{found:.4g}")

    def grid(self) -> list[Any]:
        """Its choices, or evenly spaced values of its range, ends included."""
        if self.kind == "choice":
            return list(self.values)
        low, high = (math.log(end) if "log" in self.kind else end for end in self.values)
        steps = [low + (high - low) * number / (_GRID_STEPS - 1) for number in range(_GRID_STEPS)]
        values = [math.exp(step) if "log" in self.kind else step for step in steps]
        return sorted({round(value) for value in values}) if self.kind.endswith("int") else values


@dataclass(frozen=True)
class Space:
    """All settings that vary, around a base."""

    base: Settings
    parameters: tuple[Parameter, ...]

    def settings(self, point: Point) -> Settings:
        """The complete settings of a point.

        Raises:
            SettingsError: they do not go together.
        """
        values = self.base.model_dump()
        for name, value in point.items():
            section, key = name.split(".")
            values[section][key] = value
        try:
            kept = {"storage": self.base.storage, "tuning": self.base.tuning}  # not among stored values
            return parse_settings(values).model_copy(update=kept)
        except SettingsError as error:
            chosen = ", ".join(f"{name}={value}" for name, value in point.items())
            raise SettingsError(f"search: a trial with {chosen or 'the base settings'}: {error}") from None

    def points(self, count: int, sampler: str, seed: int, known: Sequence[Point] = ()) -> list[Point]:
        """At most `count` different points: the base as it is, then the `known` ones, then drawn ones.

        Args:
            sampler: `qmc`, a scrambled Sobol sequence, which covers the space evenly; `random`; `grid`, all
                combinations of the choices and of four values of each range.

        Raises:
            SettingsError: a point is no valid setting, or there are more than `count` without the drawn ones.
        """
        searched = {parameter.name for parameter in self.parameters}
        for point in known:
            if not searched.issuperset(point):
                raise SettingsError(
                    f"setting `tuning.known`: {point!r} sets what section `search` does not vary; expected"
                    f" {', '.join(sorted(searched))}"
                )
        given = self._different([{}, *known])
        drawn = self._grid() if sampler == "grid" else self._drawn(count + len(known), sampler, seed)
        points = self._different([*given, *drawn])
        if sampler != "grid":
            points = points[: max(count, len(given))]
        if len(points) > count:
            raise SettingsError(
                f"setting `tuning.trials`: {count} trials, and there are {len(points)} points with the base;"
                " raise it, or search less"
            )
        return points

    def _different(self, points: Sequence[Point]) -> list[Point]:
        """The first of all points that come to the same settings."""
        found: dict[str, Point] = {}
        for point in points:
            found.setdefault(digest(self.settings(point)), point)
        return list(found.values())

    def _drawn(self, count: int, sampler: str, seed: int) -> list[Point]:
        study = _study(sampler, seed)
        points: list[Point] = []
        for _ in range(_TRIES * count):
            if len(points) >= count - 1:
                break
            trial = study.ask()
            point: Point = {}
            for parameter in self.parameters:
                if parameter.matters(point, self.base):
                    point[parameter.name] = parameter.suggest(trial)
            study.tell(trial, 0.0)  # so that a sequence knows its space; no sampler here looks at values
            if not self._same_as_base(point) and point not in points:
                points.append(point)
        return points

    def _grid(self) -> list[Point]:
        return [point for point in _combinations(self, {}, 0) if not self._same_as_base(point)]

    def _same_as_base(self, point: Point) -> bool:
        return all(value_of(self.base, name) == value for name, value in point.items())


def _study(sampler: str, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if sampler == "random":
        return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))


def parse_space(search: Any, base: Settings) -> Space:
    """Read the section `search` of a sweep's configuration.

    Raises:
        SettingsError: a name is no setting, a range or a condition makes no sense, or a value at an end
            of a range is not valid.
    """
    if not isinstance(search, dict) or not search:
        raise SettingsError(
            "section `search`: expected settings and what they range over, such as"
            f" `objective.eta: {{uniform: [0.5, 0.95]}}`, found {search!r}"
        )
    space = Space(base, tuple(_parameter(name, spec) for name, spec in search.items()))
    for parameter in space.parameters:
        ends = parameter.values
        for value in ends:
            space.settings({**dict(parameter.when), parameter.name: value})
    return space


def _parameter(name: str, spec: Any) -> Parameter:
    where = f"section `search`, `{name}`"
    known = {key for key, _, _ in describe() if key.startswith(_SECTIONS)}
    if name not in known:
        raise SettingsError(
            f"{where}: no setting of a training; `raysvq settings` lists them, in the sections"
            f" {', '.join(section.rstrip('.') for section in _SECTIONS)}"
        )
    kinds = [key for key in spec if key != "when"] if isinstance(spec, dict) else []
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise SettingsError(f"{where}: expected one of {', '.join(_KINDS)}, found {spec!r}")
    kind, values, when = kinds[0], spec[kinds[0]], spec.get("when", {})
    if not isinstance(values, list) or len(values) < 2 or (kind in _RANGES and not _is_range(kind, values)):
        expected = "two or more values" if kind == "choice" else f"[low, high]{_DETAIL[kind]}"
        raise SettingsError(f"{where}: {kind} expects {expected}, found {values!r}")
    if not isinstance(when, dict) or not known.issuperset(when):
        raise SettingsError(f"{where}: when expects settings and their values, found {when!r}")
    return Parameter(name, kind, tuple(values), tuple(when.items()))


_WHOLE = " of whole numbers"
_DETAIL = {"uniform": "", "log_uniform": " above 0", "int": _WHOLE, "log_int": f"{_WHOLE} above 0"}


def _is_range(kind: str, values: list[Any]) -> bool:
    types: tuple[type, ...] = (int,) if kind.endswith("int") else (int, float)
    numbers = all(isinstance(value, types) and not isinstance(value, bool) for value in values)
    return len(values) == 2 and numbers and values[0] < values[1] and ("log" not in kind or values[0] > 0)


def _combinations(space: Space, point: Point, number: int) -> Iterator[Point]:
    if number == len(space.parameters):
        yield point
        return
    parameter = space.parameters[number]
    values = parameter.grid() if parameter.matters(point, space.base) else None
    if values is None:
        yield from _combinations(space, point, number + 1)
        return
    for value in values:
        yield from _combinations(space, {**point, parameter.name: value}, number + 1)


def value_of(settings: Settings, name: str) -> Any:
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)
