"""Packages that only some stems need, and their errors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raysvq.errors import SettingsError, first_line


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


@contextmanager
def refusing(problem: str) -> Iterator[None]:
    """Raise a SettingsError that names the problem where a package refuses what a user brought."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # errors of these packages share no other base
        raise SettingsError(f"setting `model.stem`: {problem} ({first_line(error)})") from None
