"""What went wrong, in one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysvq.errors import StorageError


@contextmanager
def storage_errors(what: str, passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Name `what` failed and why; errors of the type `passing` go through as they are.

    Each store's client has exceptions of its own, not all of them OSErrors.

    Raises:
        StorageError: anything else failed.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """One line without the file's name."""
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ("permission denied" if text == "Permission denied" else text).splitlines()[0]
