"""How places are written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from raysvq.errors import StorageError


def canonical(uri: str | Path) -> str:
    """The one spelling of a URI: absolute path for local files, `scheme://…` otherwise.

    `.` and `..` are resolved as in a path; `//` stays, as it names another object.

    Raises:
        StorageError: `..` leads out of the bucket.
    """
    text = str(uri)
    scheme, path = split(text)
    if scheme != "file":
        return f"{scheme}://{_without_dots(path.rstrip('/'), text)}"
    return os.path.abspath(os.path.expanduser(path))


def _without_dots(path: str, uri: str) -> str:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if len(kept) < 2:  # the first is the bucket
                raise StorageError(f"{uri}: `..` leads out of the bucket")
            kept.pop()
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def join(base: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return "/".join([base.rstrip("/"), *parts])


def image_id(uri: str) -> str:
    """128-bit hash of a canonical URI, 32 hexadecimal digits."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def split(uri: str) -> tuple[str, str]:
    """Scheme and path; without a scheme, `file`."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return "file", uri
    return scheme.lower(), path
