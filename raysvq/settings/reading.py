"""From a YAML file and dotted overrides to validated settings, and to their digest."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from raysvq.errors import SettingsError
from raysvq.settings.options import Settings

# Their values are taken literally.
_SECRETS = ("storage.access_key_id", "storage.secret_access_key")


def load_settings(config: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read a YAML file (or none), apply `a.b=value` overrides, validate.

    Raises:
        SettingsError: the file or an override cannot be read, a key is unknown, a value impossible.
    """
    values = _read_yaml(find_config(config)) if config is not None else {}
    for override in overrides:
        _apply(values, override)
    return parse_settings(values)


def load_sweep(config: str | Path, overrides: Sequence[str] = ()) -> tuple[Settings, Any]:
    """Read a sweep's YAML file: settings, the section `search`, and `base`, a configuration to start from.

    Returns:
        The settings that trials start from, and `search` as it stands there, None without one.

    Raises:
        SettingsError: as `load_settings`.
    """
    values = _read_yaml(find_config(config))
    search, base = values.pop("search", None), values.pop("base", None)
    merged = _read_yaml(find_config(base)) if base is not None else {}
    for section, given in values.items():
        inner = merged.setdefault(section, {})
        if not isinstance(given, dict) or not isinstance(inner, dict):
            raise SettingsError(f"configuration {config}: {section!r} is not a section")
        inner |= given
    for override in overrides:
        _apply(merged, override)
    return parse_settings(merged), search


def find_config(name: str | Path) -> Path:
    """The file of that path, or the shipped configuration of that name.

    Raises:
        SettingsError: there is neither.
    """
    path = Path(name)
    if path.suffix or path.exists():
        return path
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):  # in a wheel, in a checkout
        if folder.is_dir():
            shipped = {file.stem: file for file in folder.glob("*.yaml")}
            if path.name in shipped:
                return shipped[path.name]
            raise SettingsError(f"no configuration {name!r}; shipped are {', '.join(sorted(shipped))}")
    raise SettingsError(f"configuration {name!r} is not a file")


def parse_settings(values: dict[str, Any]) -> Settings:
    """Validate nested plain values, as read from YAML or JSON.

    Raises:
        SettingsError: a key is unknown or a value impossible.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentence(item) for item in error.errors())) from None


def digest(settings: BaseModel) -> str:
    """16 hexadecimal digits over the resolved values, independent of key order."""
    canonical = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def describe() -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, default, description) of every setting."""
    for section, field in Settings.model_fields.items():
        for name, inner in type(field.default).model_fields.items():
            yield f"{section}.{name}", inner.default, inner.description or ""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"configuration {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"configuration {path}: not valid YAML ({_where(error)})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"configuration {path}: expected sections such as `training:`, found {type(values).__name__}"
        )
    return values


def _where(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong and in which line, without the line itself, which may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    return f"line {error.problem_mark.line + 1}: {error.problem}"


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override {override!r}: expected section.name=value")
    *sections, name = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"override {override!r}: {section!r} is not a section")
        values = inner
    try:
        values[name] = text if key in _SECRETS else yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"override {override!r}: {text!r} is not a YAML value") from None


def _sentence(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        known = [name for name, _, _ in describe()] + list(Settings.model_fields)
        close = [name for name in known if name.endswith(f".{key}")]
        close = close or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else "`raysvq settings` lists them all"
        return f"unknown setting `{key}`: {hint}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    found = (
        ""
        if isinstance(item["input"], dict | BaseModel) or key.startswith("storage.")
        else f", found {item['input']!r}"
    )
    return f"setting `{key}`: {message}{found}"
