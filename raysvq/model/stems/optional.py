"""Packages that only some stems need."""

from __future__ import annotations

import importlib
from typing import Any

from raysvq.errors import SettingsError


def import_extra(module: str, extra: str, stem: str) -> Any:
    """A module of a package that an extra of raysvq installs.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"setting `model.stem`: {stem} needs the package {module.replace('_', '-')}, which cannot be"
            f" imported ({error}); expected `pip install 'raysvq[{extra}]'`"
        ) from None
