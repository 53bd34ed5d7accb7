"""Where the files of a listing are: entries relative to it, and spellings of other systems."""

from __future__ import annotations

import re
from urllib.parse import unquote

from raysvq.errors import DataError, StorageError
from raysvq.storage import canonical, file_infos, join

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_OTHER_S3 = re.compile(r"s3[an]://|https?://[^/]*\bs3\b[^/]*amazonaws\.com/|arn:aws:s3:", re.IGNORECASE)


def resolve(base: str, name: str | None, where: str) -> str:
    """The URI of an entry; a relative one is taken from the folder `base`, dots included.

    Raises:
        DataError: it is empty, or a spelling that names no file here.
    """
    if not name:
        raise DataError(f"{where}: the URI is empty")
    if re.match(r"~\w*/", name):
        raise DataError(f"{where}: {name!r} depends on who reads it; expected the whole path instead of ~")
    if _WINDOWS.match(name):
        raise DataError(f"{where}: {name!r} is a path of Windows; expected one of this system")
    if _OTHER_S3.match(name):
        raise DataError(f"{where}: {name!r} is another way to name an object; expected s3://bucket/key")
    if re.match(r"https?://", name, re.IGNORECASE):
        raise DataError(f"{where}: {name!r} is a web address; expected a path or an object store's URI")
    if re.match("file:(?!//)", name):
        raise DataError(f"{where}: {name!r}; expected file:///… or a path")
    try:
        return canonical(name if "://" in name or name.startswith("/") else join(base, name))
    except StorageError as error:
        raise DataError(f"{where}: {error}") from None


def why_missing(entry: str, uri: str) -> str | None:
    """Why a file is not found, where its name was meant for other readers; None where it is just not there.

    Args:
        entry: as it is written.
        uri: where it was looked for.
    """
    if entry != entry.strip():
        return f"{entry!r} has blanks around it"
    if "\\" in entry:
        return f"{entry!r} has folders separated by \\, expected /"
    if unquote(uri) != uri and file_infos([unquote(uri)])[0]:
        return f"{entry!r} is percent-encoded; names are taken as they are written"
    return None
