"""The cells of a listing: what a value means, or why it is refused."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from raysvq.data.words import label_meant, split_meant, words
from raysvq.errors import DataError
from raysvq.schema import LABELS, NORMAL, SPLITS, UNKNOWN

# How tools write that there is no value. As a group it would make one lot of all images.
_NOTHING = words("nan none null nil na n/a #n/a <na> nat undefined missing - -- ? .")
_EITHER = words("0 1 -1 true false yes no y n t f")
_DAY = re.compile(r"\d{8}")


def text(value: Any, column: str, where: str) -> str | None:
    """A cell as text, whole numbers without a fraction; None where it is empty.

    Raises:
        DataError: it holds bytes that are not UTF-8, or several values.
    """
    if value is None or value == "" or (isinstance(value, float | Decimal) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode() or None
        except UnicodeDecodeError:
            raise DataError(f"{where}: {column} holds bytes that are not UTF-8 text") from None
    if isinstance(value, list | dict | tuple):
        raise DataError(f"{where}: {column} holds a {type(value).__name__}, expected one value a cell")
    if isinstance(value, float | Decimal) and -(2**53) < value < 2**53 and value == int(value):
        return str(int(value))
    return str(value)


def name(value: Any, column: str, where: str) -> str | None:
    """A group, a kind of defect, or a file's name.

    Raises:
        DataError: the text says that there is no value, or has blanks around it.
    """
    found = text(value, column, where)
    if found and found.casefold() in _NOTHING:
        raise DataError(f"{where}: {column} is {found!r}; where there is none, the cell is to be empty")
    if found and found != found.strip():
        raise DataError(f"{where}: {column} is {found!r}; expected no blanks around it")
    return found


def label(value: Any, where: str) -> str:
    """One of LABELS; empty means unknown.

    Raises:
        DataError: it is another word.
    """
    found = text(value, "label", where)
    if found is None:
        return UNKNOWN
    if found in LABELS:
        return found
    if meant := label_meant(found):
        hint = f"is {meant} meant?"
    elif found.casefold() in _NOTHING:
        hint = "where there is none, the cell is to be empty"
    elif found.casefold() in _EITHER:
        hint = "numbers and truth values mean either, depending on who wrote them"
    else:
        hint = "a kind of defect goes into `defect_type`"
    return _one_of(found, LABELS, "label", hint, where)


def require_agreement(label: str, defect: str | None, where: str) -> None:
    """Refuse a normal image with a kind of defect; words for normal may stand in both columns.

    Raises:
        DataError: label and kind of defect contradict each other.
    """
    if label == NORMAL and defect and label_meant(defect) != NORMAL:
        raise DataError(f"{where}: label is normal, but defect_type is {defect!r}; expected an empty cell")


def split(value: Any, where: str) -> str | None:
    """One of SPLITS, or None.

    Raises:
        DataError: it is another word.
    """
    found = text(value, "split", where)
    if found in SPLITS:
        return found
    meant = found and split_meant(found)
    return found and _one_of(found, SPLITS, "split", meant and f"is {meant} meant?", where)


def moment(value: Any, where: str) -> datetime | None:
    """A time in UTC, the day's first for a date.

    Raises:
        DataError: it is no time of ISO 8601, or outside the years 1 to 9999.
    """
    found = value if isinstance(value, date) else _parsed(value, where)
    if found is None:
        return None
    if not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        raise DataError(
            f"{where}: captured_at is {str(value)!r}, which in UTC is outside the years 1 to 9999; where"
            " there is no time, the cell is to be empty"
        ) from None


def _parsed(value: Any, where: str) -> datetime | None:
    found = text(value, "captured_at", where)
    if found is None:
        return None
    try:
        if isinstance(value, int | float | Decimal) or (found.isdigit() and not _DAY.fullmatch(found)):
            raise ValueError("a bare number")
        return datetime.fromisoformat(found)
    except ValueError:
        raise DataError(
            f"{where}: captured_at is {found!r}, expected ISO 8601 such as 2026-05-04T10:00:00Z"
        ) from None


def _one_of(value: str, allowed: tuple[str, ...], column: str, hint: str | None, where: str) -> str:
    if value not in allowed:
        expected = f"expected one of {', '.join(allowed)}"
        raise DataError("; ".join(filter(None, [f"{where}: {column} is {value!r}, {expected}", hint])))
    return value
