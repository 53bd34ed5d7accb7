"""The search space of a sweep: the section `search` of a configuration, and its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysvq.errors import SettingsError
from raysvq.evaluation.leaderboard import Point, value_of
from raysvq.settings import Settings, describe, parse_settings
from raysvq.settings.refusals import RENAMED

_RANGES = ("uniform", "log_uniform", "int", "log_int")
_KINDS = (*_RANGES, "choice")
_SECTIONS = ("tiles.", "model.", "objective.", "training.", "anomaly.")  # sections in which trials can differ
_GRID_STEPS = 4  # grid values per range


@dataclass(frozen=True)
class Parameter:
    """A setting that varies."""

    name: str
    kind: str  # one of _KINDS
    values: tuple[Any, ...]  # the choices, or the two ends of the range
    when: tuple[tuple[str, Any], ...] = ()  # settings and the values at which this one matters

    def matters(self, point: Mapping[str, Any], base: Settings) -> bool:
        """Whether the point, or else the base, fulfils `when`."""
        return all(point.get(name, value_of(base, name)) == value for name, value in self.when)

    def suggest(self, trial: optuna.trial.BaseTrial) -> Any:
        """The value that Optuna suggests; fractions with four digits, as a person would write them."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values
        if self.kind.endswith("int"):
            return trial.suggest_int(self.name, low, high, log=self.kind == "log_int")
        found = trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")
        return min(max(float(f"{found:.4g}"), low), high)

    def distribution(self) -> BaseDistribution:
        """Its Optuna distribution, to add finished trials."""
        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        low, high = self.values
        if self.kind.endswith("int"):
            return IntDistribution(low, high, log=self.kind == "log_int")
        return FloatDistribution(low, high, log=self.kind == "log_uniform")

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the choices, or within the range."""
        if self.kind == "choice":
            return value in self.values
        return isinstance(value, int | float) and self.values[0] <= value <= self.values[1]

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
    """The settings that vary, and the base."""

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
            excluded = {"storage": self.base.storage, "tuning": self.base.tuning}  # from `values`
            return parse_settings(values).model_copy(update=excluded)
        except SettingsError as error:
            chosen = ", ".join(f"{name}={value}" for name, value in point.items())
            raise SettingsError(f"search: a trial with {chosen or 'the base settings'}: {error}") from None

    def suggest(self, trial: optuna.trial.BaseTrial) -> Point:
        """Draw a point, define-by-run: parameters that `when` excludes are not drawn."""
        point: Point = {}
        for parameter in self.parameters:
            if parameter.matters(point, self.base):
                point[parameter.name] = parameter.suggest(trial)
        return point

    def parameters_of(self, point: Point) -> dict[Parameter, Any] | None:
        """The value of each parameter that matters in a point; None where one is outside of its range.

        The base, and what a point leaves to the base, need not be within the ranges searched.
        """
        found = {
            parameter: point.get(parameter.name, value_of(self.base, parameter.name))
            for parameter in self.parameters
            if parameter.matters(point, self.base)
        }
        return found if all(parameter.holds(value) for parameter, value in found.items()) else None

    def grid(self) -> Iterator[Point]:
        """All combinations of the choices and of four values of each range."""
        return self._combinations({}, 0)

    def ends(self) -> list[Settings]:
        """The base, and it with each parameter at each of its choices or at an end of its range.

        Raises:
            SettingsError: one of them is not valid.
        """
        points = [
            {**dict(parameter.when), parameter.name: value}
            for parameter in self.parameters
            for value in parameter.values
        ]
        return [self.settings(point) for point in ({}, *points)]

    def _combinations(self, point: Point, number: int) -> Iterator[Point]:
        if number == len(self.parameters):
            yield point
            return
        parameter = self.parameters[number]
        if not parameter.matters(point, self.base):
            yield from self._combinations(point, number + 1)
            return
        for value in parameter.grid():
            yield from self._combinations({**point, parameter.name: value}, number + 1)


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
    space.ends()
    return space


def _parameter(name: str, spec: Any) -> Parameter:
    where = f"section `search`, `{name}`"
    known = {key for key, _, _ in describe() if key.startswith(_SECTIONS)}
    if name not in known:
        renamed = f"; it is now called `{RENAMED[name]}`" if name in RENAMED else ""
        raise SettingsError(
            f"{where}: no setting of a training{renamed}; `raysvq settings` lists them, in the sections"
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
