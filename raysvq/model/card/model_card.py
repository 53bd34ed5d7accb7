"""A model card: lines in sections, and the Markdown file that they make up.

Margaret Mitchell et al., "Model Cards for Model Reporting", FAccT 2019. What stands between backticks is
code: names of others are quoted so, and mean nothing to Markdown or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raysvq.data.sources.names import printable

CARD = "card.md"  # in a bundle
UNKNOWN = "not known: it is not stored with this model"
MAX_NAMES = 8  # in a list
_LONG = 60  # characters of a name
_CODE = re.compile(r"(`[^`]*`)")


@dataclass(frozen=True)
class Line:
    """A fact: what it is about, and the sentence."""

    name: str
    text: str


@dataclass(frozen=True)
class Section:
    """Lines on one question, and commands that answer it."""

    title: str
    lines: tuple[Line, ...]
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """What to know of a model before its scores are used."""

    version: str
    trained_on: Section
    method: Section
    held_out: Section
    limits: Section
    false_alarms: Section
    untested: Section
    use: Section
    origin: Section

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in order."""
        return (
            *(self.trained_on, self.method, self.held_out, self.limits),
            *(self.false_alarms, self.untested, self.use, self.origin),
        )


def markdown(card: ModelCard) -> str:
    """The card as a Markdown file."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"# Model {card.version}"
    for section in card.sections:
        yield from ("", f"## {section.title}", "")
        yield from (f"- **{line.name}:** {_escaped(line.text)}" for line in section.lines)
        if section.commands:
            yield from ("", "```", *section.commands, "```")


def _escaped(text: str) -> str:
    """Outside of code, what Markdown would take for markup."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*<\[|`])", r"\\\1", part) for part in parts)


def quoted(name: str) -> str:
    """A name of somebody else's as code, on one line and not too long."""
    shown = printable(name).replace("`", "'").strip() or " "
    return f"`{shown if len(shown) <= _LONG else shown[:_LONG] + '…'}`"


def quoted_uri(uri: str) -> str:
    """A URI or path as code, whole."""
    return f"`{printable(uri).replace('`', '%60')}`"


def listed(names: Mapping[str, object] | Sequence[str]) -> str:
    """The first MAX_NAMES names; of a mapping with their values, such as "`scratch` 12, `pit` 3"."""
    values = names if isinstance(names, Mapping) else {}
    first = list(names)[:MAX_NAMES]
    each = (f"{quoted(name)} {values[name]}" if name in values else quoted(name) for name in first)
    return ", ".join(each) + (" and more" if len(names) > MAX_NAMES else "")


def counted(number: int, name: str) -> str:
    """A number with its noun."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"
