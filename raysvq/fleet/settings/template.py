"""Templates of where images land: `s3://raw/{site}/{camera}/{date:%Y-%m-%d}/{name}.png`.

A field stands for text without a slash, and ends where what follows it first fits. A field that comes twice
has one value. `{date:…}` takes codes of strptime and slashes, and may be spread over places: each code
is a field of its own, `%Y` or `%H`. `{name}` and `{*}` stand for text of no meaning.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from raysvq.storage import canonical

DATE, NAME, ANY = "date", "name", "*"

_CODES = {  # of strptime -> what fits: numbers with all their digits, as strftime writes them
    **{"%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d\d", "%d": r"\d\d", "%j": r"\d{3}"},
    **{"%b": "[A-Za-z]{3}", "%B": "[A-Za-z]+", "%a": "[A-Za-z]{3}", "%A": "[A-Za-z]+"},
    **{"%G": r"\d{4}", "%V": r"\d\d", "%u": r"\d"},
    **{"%H": r"\d\d", "%I": r"\d\d", "%p": "[AaPp][Mm]", "%M": r"\d\d", "%S": r"\d\d", "%f": r"\d{1,6}"},
}
_TIMES = frozenset({"%H", "%I", "%p", "%M", "%S", "%f"})
_DAYS = (  # sets of codes that say which day it is
    *({year, month, "%d"} for year in ("%Y", "%y") for month in ("%m", "%b", "%B")),
    *({"%Y", "%j"}, {"%y", "%j"}, {"%G", "%V", "%u"}),
)
_VARYING = "[^/]+?"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}|[{}]")
_FIELD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_EXAMPLE = "{date:%Y-%m-%d}"

Known = Mapping[str, str]  # field or code -> its text


@dataclass(frozen=True)
class Token:
    """A part of a template: plain text, or a placeholder."""

    text: str  # as it stands in the template
    pattern: str = ""  # regular expression of what a placeholder stands for; none of plain text
    key: str | None = None  # field or code; None of plain text and of `{*}`

    @property
    def varies(self) -> bool:
        """Whether it has no width of its own."""
        return self.pattern == _VARYING


Segment = tuple[Token, ...]  # of a template, between two slashes


@dataclass(frozen=True)
class Place:
    """What a template says of an image."""

    fields: dict[str, str]
    date: date | None
    captured_at: datetime | None  # where the template has a time of the day


@dataclass(frozen=True)
class Template:
    """A valid template."""

    text: str
    root: str  # URI of the folder that all of it lies in
    segments: tuple[Segment, ...]  # below the root; the last one is the file's

    @cached_property
    def _keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t.key for segment in self.segments for t in segment if t.key))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that make a camera, in order."""
        return tuple(key for key in self._keys if key != NAME and key not in _CODES)

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Codes of the date, each once."""
        return tuple(key for key in self._keys if key in _CODES)

    @cached_property
    def is_timed(self) -> bool:
        """Whether it says at which hour an image was taken."""
        return "%H" in self.codes or {"%I", "%p"} <= set(self.codes)

    @cached_property
    def dates_first(self) -> bool:
        """Whether folders of dates lie above those that name cameras."""
        return (
            any(key in _CODES for key in self._keys[: self._keys.index(self.fields[-1])])
            if self.fields
            else False
        )

    def place(self, uri: str, zone: ZoneInfo) -> Place | None:
        """What it says of an image; None where it does not fit."""
        names = uri.removeprefix(f"{self.root}/").split("/")
        if not uri.startswith(f"{self.root}/") or len(names) != len(self.segments):
            return None
        known: Known = {}
        for segment, name in zip(self.segments, names, strict=True):
            found = match(segment, name, known)
            if found is None:
                return None
            known = found
        return self.place_of(known, zone)

    def place_of(self, known: Known, zone: ZoneInfo) -> Place | None:
        """What it says of an image whose fields and codes are known; None where there is no such day."""
        fields = {name: known[name] for name in self.fields}
        if not self.codes:
            return Place(fields, None, None)
        moment = _moment(self.codes, tuple(known[code] for code in self.codes))
        if moment is None:
            return None
        return Place(fields, moment.date(), moment.replace(tzinfo=zone) if self.is_timed else None)


def parse_template(text: str) -> Template:
    """Read a template with an absolute path.

    Raises:
        ValueError: it is none, with what was found and what is expected.
    """
    tokens = list(_tokens(text))
    for one, other in pairwise(tokens):
        if one.pattern and other.pattern and (one.varies or other.varies):
            raise ValueError(f"{one.text}{other.text} is ambiguous; expected text between the two")
    segments = _segments(tokens)
    names = ["".join(token.text for token in segment) for segment in segments]
    first = next((at for at, segment in enumerate(segments) if any(t.pattern for t in segment)), None)
    if not segments[-1]:
        raise ValueError("it ends in `/`; expected the name of a file behind it, such as {name}.png")
    if first is None or not any(token.pattern for token in segments[-1]):
        raise ValueError(
            f"found no field in the name of the file, `{names[-1]}`; expected such as {{name}}.png"
        )
    if "://" in text and first < 3:
        raise ValueError("found a field in the name of the bucket; expected an entry for each bucket")
    if any(name in ("", ".", "..") for name in names[first:]):
        raise ValueError(
            "found an empty folder name, `.` or `..` behind a field; expected a path as it is listed"
        )
    template = Template(text, canonical("/".join(names[:first]) or "/"), tuple(segments[first:]))
    _require_day(template.codes)
    return template


def match(segment: Segment, name: str, known: Known) -> dict[str, str] | None:
    """What is known of a file or folder of this name and what is in it; None where the name does not fit."""
    given = tuple((token.key, known[token.key]) for token in segment if token.key and token.key in known)
    found = _expression(segment, given).fullmatch(name)
    return (
        None
        if found is None
        else {**known, **{_key(group): text for group, text in found.groupdict().items()}}
    )


def is_day(day: date, known: Known) -> bool:
    """Whether what is known of a date is true of a day."""
    return all(day.strftime(code) == text for code, text in known.items() if _is_of_days(code))


def branches(
    segment: Segment, known: Known, days: tuple[date, ...] | None
) -> Iterator[tuple[Known, tuple[date, ...] | None]]:
    """What to list a segment's names for, one after another: what is known then, and the days that it may be.

    Days are told apart where their codes come before the first unknown field: then no name of another day is
    asked for.
    """
    codes = [token.key for token in _start(segment, known) if token.key and token.key not in known]
    if not codes:
        yield known, days
        return
    texts: dict[tuple[str, ...], list[date]] = {}
    for day in days or ():
        texts.setdefault(tuple(day.strftime(code) for code in codes), []).append(day)
    for values, some in texts.items():
        yield {**known, **dict(zip(codes, values, strict=True))}, tuple(some)


def start_of(segment: Segment, known: Known) -> str:
    """How the names of a segment begin, as far as it is known, and whether that is all of them."""
    begun = itertools.takewhile(lambda token: _is_known(token, known), segment)
    return "".join(known[token.key] if token.key else token.text for token in begun)


def is_known(segment: Segment, known: Known) -> bool:
    """Whether one name alone fits a segment."""
    return all(_is_known(token, known) for token in segment)


@lru_cache(maxsize=4096)  # most images of a folder are of one day
def _moment(codes: tuple[str, ...], texts: tuple[str, ...]) -> datetime | None:
    """Day and time of codes; None where there is none, or they contradict each other."""
    try:
        moment = datetime.strptime(" ".join(texts), " ".join(codes))
    except ValueError:
        return None
    return moment if is_day(moment.date(), dict(zip(codes, texts, strict=True))) else None


def _is_known(token: Token, known: Known) -> bool:
    return not token.pattern or token.key in known


def _is_of_days(key: str | None) -> bool:
    return key in _CODES and key not in _TIMES


def _start(segment: Segment, known: Known) -> Iterator[Token]:
    return itertools.takewhile(lambda token: _is_known(token, known) or _is_of_days(token.key), segment)


@lru_cache(maxsize=4096)
def _expression(segment: Segment, given: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Of the names that fit a segment, with the values that some of its keys have already."""
    values, parts = dict(given), []
    seen: set[str] = set()
    for token in segment:
        if not token.pattern:
            parts.append(re.escape(token.text))
        elif token.key is None:
            parts.append(token.pattern)
        elif token.key in values:
            parts.append(re.escape(values[token.key]))
        else:
            again = token.key in seen
            parts.append(
                f"(?P={_group(token.key)})" if again else f"(?P<{_group(token.key)}>{token.pattern})"
            )
            seen.add(token.key)
    return re.compile("".join(parts))


def _group(key: str) -> str:
    return f"c_{key[1:]}" if key in _CODES else f"f_{key}"


def _key(group: str) -> str:
    return f"%{group[2:]}" if group.startswith("c_") else group[2:]


def _tokens(text: str) -> Iterator[Token]:
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        if found.start() > end:
            yield Token(text[end : found.start()])
        end = found.end()
        if found[1] is None:
            raise ValueError(f"found `{found[0]}` alone; expected fields as {{name}}")
        yield from _placeholder(found[0], found[1])
    if end < len(text):
        yield Token(text[end:])


def _placeholder(text: str, inner: str) -> Iterator[Token]:
    name, colon, codes = inner.partition(":")
    if name == DATE:
        if not codes:
            raise ValueError(f"found {text}; expected how the date is written, such as {_EXAMPLE}")
        yield from _code_tokens(text, codes)
    elif inner == ANY:
        yield Token(text, _VARYING)
    elif colon or not _FIELD.fullmatch(name):
        raise ValueError(f"found {text}; expected a field of letters, digits and `_`, {_EXAMPLE} or {{*}}")
    else:
        yield Token(text, _VARYING, name)


def _code_tokens(text: str, codes: str) -> Iterator[Token]:
    for part in re.findall(r"%.?|[^%]+", codes, re.DOTALL):
        if part == "%%" or not part.startswith("%"):
            yield Token(part.replace("%%", "%"))
        elif part in _CODES:
            yield Token(part, _CODES[part], part)
        else:
            raise ValueError(f"found `{part}` in {text}; expected codes of {' '.join(_CODES)}")


def _segments(tokens: Sequence[Token]) -> list[Segment]:
    segments: list[list[Token]] = [[]]
    for token in tokens:
        first, *others = [token.text] if token.pattern else token.text.split("/")
        segments[-1] += [replace(token, text=first)] if first else []
        segments += [[replace(token, text=other)] if other else [] for other in others]
    return [tuple(segment) for segment in segments]


def _require_day(codes: Sequence[str]) -> None:
    if codes and not any(wanted <= set(codes) for wanted in _DAYS):
        raise ValueError(f"found a date of {' '.join(codes)}; expected a whole one, such as {_EXAMPLE}")
