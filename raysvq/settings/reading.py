"""From a YAML file and dotted overrides to validated settings, and to their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from raysvq.errors import SettingsError
from raysvq.settings.decision import DecisionSettings
from raysvq.settings.files import find_config, parse_yaml, read_config
from raysvq.settings.options import Settings
from raysvq.settings.refusals import COMPLEMENTS, RENAMED, sentence, shown

# Values of these settings are taken literally.
_SECRETS = ("storage.access_key_id", "storage.secret_access_key", "storage.session_token")


def load_settings(config: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read a YAML file (or none), apply `a.b=value` overrides, validate.

    Raises:
        SettingsError: the file or an override cannot be read, a key is unknown, a value impossible.
    """
    values = read_config(find_config(config)) if config is not None else {}
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
    values = read_config(find_config(config))
    search, base = values.pop("search", None), values.pop("base", None)
    if not isinstance(base, str | None):
        raise SettingsError(f"configuration {config}: `base` expects a file or the name of a shipped one")
    merged = read_config(find_config(base)) if base is not None else {}
    for section, given in values.items():
        inner = merged.setdefault(section, {})
        if not isinstance(given, dict) or not isinstance(inner, dict):
            raise SettingsError(f"configuration {config}: {section!r} is not a section")
        inner |= given
    for override in overrides:
        _apply(merged, override)
    return parse_settings(merged), search


def parse_settings(values: dict[str, Any]) -> Settings:
    """Validate nested plain values, as read from YAML or JSON.

    Raises:
        SettingsError: a key is unknown or a value impossible.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(sentence(item) for item in error.errors())) from None


def merge_decision(own: Mapping[str, Any], given: DecisionSettings) -> DecisionSettings:
    """A model's decision settings, with those that are given in place of its own.

    Raises:
        SettingsError: they do not go together.
    """
    new = given.model_dump(include=given.model_fields_set)
    decision = dict(own) | new
    if decision["policy"] != "manual" and "threshold" not in new:
        decision["threshold"] = None
    return parse_settings({"decision": decision}).decision


def with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """Nested values that an earlier version stored, under the names that settings have now."""

    present: dict[str, Any] = {}
    for section, inner in values.items():
        present.setdefault(section, {})
        for name, value in inner.items():
            key = f"{section}.{name}"
            if key in COMPLEMENTS:
                value = round(1 - value, 12)
            now, _, renamed = RENAMED.get(key, COMPLEMENTS.get(key, key)).partition(".")
            present.setdefault(now, {})[renamed] = value
    return present


def digest(settings: BaseModel) -> str:
    """16 hexadecimal digits over the resolved values, independent of key order."""
    canonical = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override {shown(override)}: expected section.name=value")
    *sections, name = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"override {shown(override)}: {section!r} is not a section")
        values = inner
    try:
        values[name] = text if key in _SECRETS else parse_yaml(text)
    except (yaml.YAMLError, SettingsError):
        raise SettingsError(f"override {shown(override)}: what follows `=` is not a YAML value") from None
