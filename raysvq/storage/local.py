"""Local files that appear whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes | Path) -> None:
    """Put bytes, or a copy of a file, in the place of `path` at once."""
    with _partial(path) as partial:
        _fill(partial, content)
        partial.replace(path)


def create(path: Path, content: bytes) -> bool:
    """Whether this call created the file, which must not exist yet."""
    with _partial(path) as partial:
        _fill(partial, content)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file to fill; what is left of it goes when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _fill(partial: Path, content: bytes | Path) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, partial)
    else:
        partial.write_bytes(content)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
