"""What trials are told of data that cannot be made ready for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raysvq.errors import DataError, TrainingMemoryError
from raysvq.settings import Settings, StorageSettings
from raysvq.tuning import sharing


def _ignore(line: str) -> None:
    """Nobody reads it."""


@pytest.mark.parametrize(
    ("error", "kind"), [(DataError("no such file"), DataError), (MemoryError("9 GiB"), TrainingMemoryError)]
)
def test_a_reason_is_handed_to_the_trials(
    small: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    def prepare(*_: object) -> None:
        raise error

    monkeypatch.setattr(sharing, "prepare", prepare)
    told, _ = sharing._load("m", small(), "image_auroc", StorageSettings(), 1, _ignore, None)
    assert isinstance(told, kind)
    assert str(error) in str(told)
