"""Errors of a command as one sentence and an exit code; mistakes in raysvq are not among them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer

from raysvq.errors import RaysvqError

_UsageError = typer.BadParameter.__mro__[1]  # of all errors of usage


class Failure(NamedTuple):
    """What is printed of an error, and the exit code."""

    text: str
    message: str  # the text without what shows on a terminal that it is an error of raysvq
    type: str
    exit_code: int


def explain(error: BaseException, arguments: Sequence[str]) -> Failure | None:
    """What to print of an error; None where it is a mistake of the program.

    Args:
        arguments: of the command line.
    """
    if "ray" in sys.modules:
        from raysvq.runtime.failures import in_a_sentence, is_rays, root_cause

        if is_rays(error):
            cause = root_cause(error)
            if not isinstance(cause, RaysvqError):
                return _failure(cause, in_a_sentence(error), 1)
            error = cause
    if isinstance(error, RaysvqError):
        return _failure(error, str(error), error.exit_code)
    if isinstance(error, MemoryError):
        return _failure(error, f"out of memory ({error})", 1)
    if isinstance(error, OSError) or type(error).__module__.startswith(("duckdb", "_duckdb")):
        return _failure(error, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", 1)
    if isinstance(error, _UsageError):
        usage = _usage(error, arguments)
        return Failure(usage, usage, type(error).__name__, 2)
    return None


def _failure(error: BaseException, message: str, exit_code: int) -> Failure:
    return Failure(f"raysvq: error: {message}", message, type(error).__name__, exit_code)


def _usage(error: Any, arguments: Sequence[str]) -> str:
    """How to call it, without what may be a key: an argument that follows one of the section `storage`."""
    if not arguments:
        return str(error.ctx.get_help())
    text: str = error.format_message()
    begun = next((n for n, one in enumerate(arguments) if "storage" in one), len(arguments))
    for one in sorted(arguments[begun:], key=len, reverse=True):
        word = re.escape(one.partition("=")[0] if one.startswith("-") else one)
        text = re.sub(rf"(?<!\w){word}(?!\w)", "…", text)
    usage = (
        f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n\n" if error.ctx else ""
    )
    return f"{usage}Error: {text}"
