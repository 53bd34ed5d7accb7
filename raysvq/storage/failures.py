"""What went wrong, in one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysvq.errors import DataError, SettingsError, StorageError


@contextmanager
def storage_errors(what: str, passing: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Name `what` failed and why; errors of the types `passing` go through as they are.

    Each store's client has exceptions of its own, not all of them OSErrors.

    Raises:
        SettingsError: the store cannot be opened as the settings or the environment say.
        DataError: who asked for a listing does not want to go on with it.
        StorageError: anything else failed.
    """
    through: tuple[type[Exception], ...] = (SettingsError, DataError, *passing)
    try:
        yield
    except through:
        raise
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """One line without the file's name."""
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ("permission denied" if text == "Permission denied" else text).splitlines()[0]
