"""Messages for refused settings. They never repeat a value of the section `storage`, which holds keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from raysvq.settings.options import Settings

# Former names of settings -> present names.
RENAMED = {
    "model.revive_below": "model.threshold_dead_code",
    "training.outlier_share": "training.outlier_fraction",
    "training.positions": "training.positions_per_tile",
    "tuning.known": "tuning.points_to_evaluate",
    "tuning.stop_early": "tuning.early_stopping",
    "tuning.most_train_s": "tuning.max_train_s",
    "tuning.most_image_ms": "tuning.max_image_ms",
    "tuning.most_model_mib": "tuning.max_model_mib",
}

# Former quantiles -> the settings that hold the share above them.
COMPLEMENTS = {
    "anomaly.threshold_quantile": "decision.max_false_alarm_rate",
    "anomaly.pixel_quantile": "decision.pixel_false_alarm_rate",
}

_SECTION = "storage"
_CLOSE = 0.8  # similarity of a mistyped name; any other word may be a key in the wrong place


def describe() -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, default, description) of every setting."""
    for section, field in Settings.model_fields.items():
        for name, inner in type(field.default).model_fields.items():
            yield f"{section}.{name}", inner.default, inner.description or ""


def shown(override: str) -> str:
    """The part of an override that is surely its key, in quotes; "" if there is none."""
    section, dot, rest = re.match(r"[\w.-]*", override).group().partition(".")  # type: ignore[union-attr]
    if section == _SECTION:
        return repr(section + (f".{_own(rest)}" if _own(rest) else ""))
    if section in Settings.model_fields or override.startswith(f"{section}{dot}{rest}="):
        return repr(section + dot + rest)
    return "''"


def sentence(item: Any) -> str:
    """One sentence about a problem that pydantic found."""
    key = ".".join(str(part) for part in item["loc"]) or "settings"
    secret = item["loc"][:1] == (_SECTION,)
    if item["type"] == "extra_forbidden":
        return _unknown(key, secret)
    if item["type"] == "invalid_key":
        return f"section `{item['loc'][0]}`: expected names of settings as keys"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    found = "" if isinstance(item["input"], dict | BaseModel) or secret else f", found {item['input']!r}"
    return f"setting `{key}`: {message}{found}"


def _unknown(key: str, secret: bool) -> str:
    if key in RENAMED:
        return f"setting `{key}` is now called `{RENAMED[key]}`"
    if key in COMPLEMENTS:
        return f"setting `{key}` is now `{COMPLEMENTS[key]}`, the share above it: 0.99 is 0.01 there"
    known = [name for name, _, _ in describe()] + list(Settings.model_fields)
    if secret:
        given = key.partition(".")[2]
        name = _own(given)
        if name != given and name:
            return f"setting `{_SECTION}.{name}`: expected its value after `=`, in a file after `: `"
        names = ", ".join(one for one in known if one.startswith(f"{_SECTION}."))
        return f"unknown setting `{_SECTION}.{name or '…'}`: expected one of {names}"
    close = [name for name in known if name.endswith(f".{key}")]
    close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean `{close[0]}`?" if close else "`raysvq settings` lists them all"
    return f"unknown setting `{key}`: {hint}"


def _own(text: str) -> str:
    """The part of `text` that is a name of the section, or one mistyped; "" where there is none."""
    names = type(Settings.model_fields[_SECTION].default).model_fields
    begun = max((name for name in names if text.startswith(name)), key=len, default="")
    return begun or (text if difflib.get_close_matches(text, names, n=1, cutoff=_CLOSE) else "")
