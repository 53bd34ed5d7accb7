"""Why an image cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysvq.errors import first_line

REASONS = {
    "not_found": "no file at this URI",
    "access_denied": "the store refused to hand the file out",
    "unreadable": "the file could not be read in full",
    "changed": "the file is not the one that was indexed",
    "crashed": "the decoder crashed or hung on it",
    "empty": "the file has no bytes",
    "not_an_image": "no known image format",
    "corrupt": "the format is known, but the data is cut off or damaged",
    "too_large": "more pixels than scoring.max_pixels, or than scoring.image_memory_mib or memory holds",
    "unsupported": "a kind of file or pixel raysvq does not read, such as 32-bit float",
    "not_finite": "the model gives it a score or a map that is not a finite number",
}


class DecodeError(Exception):
    """An image cannot be used. `reason` is a key of REASONS, `detail` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        return DecodeError, (self.reason, self.detail)


@contextmanager
def rejecting(kind: str) -> Iterator[None]:
    """Turn any error of a decoder into a DecodeError, so that it does not end a job."""
    try:
        yield
    except DecodeError:
        raise
    except MemoryError:
        raise DecodeError("too_large", f"{kind}: not enough memory") from None
    except Exception as error:  # noqa: BLE001
        raise DecodeError("corrupt", f"{kind}: {first_line(error)}") from None
