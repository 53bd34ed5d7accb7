"""How places are written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def canonical(uri: str | Path) -> str:
    """The one spelling of a URI: absolute path for local files, `scheme://…` otherwise."""
    text = str(uri)
    scheme, path = split(text)
    if scheme != "file":
        return f"{scheme}://{path.rstrip('/')}"
    return os.path.abspath(os.path.expanduser(path))


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
