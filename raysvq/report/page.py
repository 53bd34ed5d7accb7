"""The templates of report pages. A page is one offline HTML file with the style sheet and inline SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from raysvq.evaluation.result import MetricValue

_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def environment(*folders: Path) -> Environment:
    """A Jinja environment over these folders and the shared `style.css` and `macros.html`."""
    made = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(value=_value, interval=_interval, percent=_percent, when=_when, words=_words)
    made.filters.update(thousands="{:,}".format, decimal=_decimal, code=_code)
    return made


def script_json(data: object) -> Markup:
    """Data as JSON inside a script element.

    `<`, `>`, `&` and line separators are escaped, so that no name can end the element it stands in.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.translate(_UNSAFE))


def coded(name: str, values: Sequence[str | None]) -> dict[str, Any]:
    """A column of a page's data: its different values, and each value as an index into them; -1 for none."""
    distinct = sorted({value for value in values if value})
    index = {value: place for place, value in enumerate(distinct)}
    return {"name": name, "values": distinct, "of": [index[value] if value else -1 for value in values]}


def _value(measure: MetricValue) -> str:
    return "n/a" if measure.value is None else f"{measure.value:.3f}"


def _interval(measure: MetricValue) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return f"{measure.low:.3f} to {measure.high:.3f}"


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"


def _when(stamp: str) -> str:
    return f"{datetime.fromisoformat(stamp).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _decimal(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.1f}"


def _code(text: str) -> Markup:
    """What stands between backticks, as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
