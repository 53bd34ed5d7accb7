"""Values of a listing's cells: what each means, or why it is refused.

`where` names the listing and the row in errors.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from raysvq.data.sources.synonyms import label_meant, split_meant, word_set
from raysvq.errors import DataError
from raysvq.schema import LABELS, NORMAL, SPLITS, UNKNOWN

# How tools write that there is no value. Read as a group, it would put all these images into one.
_NOTHING = word_set("nan none null nil na n/a #n/a <na> nat undefined missing - -- ? .")
_AMBIGUOUS = word_set("0 1 -1 true false yes no y n t f")
_DAY = re.compile(r"\d{8}")


def text(value: Any, column: str, where: str) -> str | None:
    """A cell as text; None where it is empty. Whole numbers are written without a fraction.

    Raises:
        DataError: the cell holds bytes that are not UTF-8, or several values.
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
    """A group, a defect type or the name of a file; None where the cell is empty.

    Raises:
        DataError: the text stands for a missing value, or has blanks around it.
    """
    found = text(value, column, where)
    if found and found.casefold() in _NOTHING:
        raise DataError(f"{where}: {column} is {found!r}; where there is none, the cell is to be empty")
    if found and found != found.strip():
        raise DataError(f"{where}: {column} is {found!r}; expected no blanks around it")
    return found


def label(value: Any, where: str) -> str:
    """One of LABELS; an empty cell means unknown.

    Raises:
        DataError: the cell holds another word.
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
    elif found.casefold() in _AMBIGUOUS:
        hint = "numbers and truth values mean either, depending on who wrote them"
    else:
        hint = "a kind of defect goes into `defect_type`"
    return _one_of(found, LABELS, "label", hint, where)


def require_agreement(label: str, defect: str | None, where: str) -> None:
    """Refuse a normal image with a defect type. A word for normal, such as `good`, may stand in both columns.

    Raises:
        DataError: label and defect type contradict each other.
    """
    if label == NORMAL and defect and label_meant(defect) != NORMAL:
        raise DataError(f"{where}: label is normal, but defect_type is {defect!r}; expected an empty cell")


def split(value: Any, where: str) -> str | None:
    """One of SPLITS; None where the cell is empty.

    Raises:
        DataError: the cell holds another word.
    """
    found = text(value, "split", where)
    if found in SPLITS:
        return found
    meant = found and split_meant(found)
    return found and _one_of(found, SPLITS, "split", meant and f"is {meant} meant?", where)


def moment(value: Any, where: str) -> datetime | None:
    """A time in UTC; a date becomes midnight, an empty cell None.

    Raises:
        DataError: the cell holds no time of ISO 8601, or one outside the years 1 to 9999.
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
