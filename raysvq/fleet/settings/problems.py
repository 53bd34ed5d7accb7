"""What is wrong with a fleet's file, each problem in one line with where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from raysvq.errors import SettingsError
from raysvq.fleet.settings.sections import allowed
from raysvq.settings.lines import line_of
from raysvq.settings.section import Section

_SHAPES = {  # of values; another one may hold a secret, so only its kind is said
    **dict.fromkeys(("model_type", "dict_type"), "keys with values"),
    "tuple_type": "a list, each item behind a `-`",
}
_WORDS = {  # in place of pydantic's
    "string_type": "expected text",
    "string_too_short": "expected text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "expected a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number"),
}
COMMAND_LINE = 0  # in place of a line: the value was given with --set
_LONGEST = 100  # characters of a value that are shown

AnySection = TypeVar("AnySection", bound=Section)


@dataclass
class Problems:
    """Collects what is wrong with a file, each thing once."""

    file: str
    line: int | None = None  # of what is checked, where its values do not know better
    found: dict[tuple[int, str], None] = field(default_factory=dict)

    def add(self, line: int | None, text: str) -> None:
        """Add one; without a line it is one of the whole file."""
        self.found[1 if line is None else line, text] = None

    def at(self, values: Any, path: Sequence[Hashable], text: str) -> None:
        """Add one about the value at a path."""
        key = ".".join(map(str, path))
        self.add(line_of(values, path), f"`{key}`: {text}")

    def check(self, model: type[AnySection], values: Any) -> AnySection | None:
        """The section that values are; None, and what is wrong is added, where they are none."""
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                if item["type"] == "too_short" and item["input"]:
                    continue  # what is wrong with each of its items is said
                line = line_of(values, item["loc"])
                self.add(line if line is not None else self.line, _sentence(item, model))
            return None

    def require_none(self) -> None:
        """Raise SettingsError with a line for each, in the order of the file."""
        if self.found:
            head = [f"{len(self.found)} problems in {self.file}:"] if len(self.found) > 1 else []
            raise SettingsError("\n".join([*head, *self._lines()]))

    def _lines(self) -> Iterator[str]:
        for line, text in sorted(self.found, key=lambda problem: problem[0]):
            yield f"--set: {text}" if line == COMMAND_LINE else f"{self.file}:{line}: {text}"


def _sentence(item: Any, model: type[Section]) -> str:
    path = item["loc"]
    key = ".".join(map(str, path))
    if item["type"] == "extra_forbidden":
        names = allowed(model, path[:-1])
        close = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=0.6)
        hint = f"did you mean `{close[0]}`? " if close else ""
        return f"`{key}` is unknown; {hint}allowed are {', '.join(names)}"
    if item["type"] == "missing":
        return f"`{key}` is missing"
    if item["type"] in _SHAPES:
        return f"`{key}`: expected {_SHAPES[item['type']]}, found {kind_of(item['input'])}"
    if item["type"] == "too_short":
        return f"`{key}`: expected at least one"
    message = _WORDS.get(item["type"]) or item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "value_error" or "storage" in path:  # whose values may be secret
        return f"`{key}`: {message}" if key else message
    return f"`{key}`: {message}, found {_shown(item['input'])}"


def kind_of(value: Any) -> str:
    """What a value of YAML is, in a word or two."""
    if value is None or value == "":
        return "nothing"
    kinds = {dict: "keys with values", list: "a list", str: "text"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number")


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    text = repr(dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
