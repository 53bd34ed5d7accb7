"""Names that stand for a model while models change: `models@champion`.

An alias is a small file with the path of the bundle, written atomically. Scheduled runs name the alias; a new
model is promoted by writing it again.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from raysvq.errors import BundleError
from raysvq.storage import canonical, exists, join, read_bytes, write_bytes

_ALIAS = re.compile(r"(?P<folder>.+)@(?P<alias>[a-z][a-z0-9_-]*)")


def promote(alias: str, model: str) -> None:
    """Let an alias, `folder@name`, stand for a model bundle from now on.

    Raises:
        BundleError: `alias` is no alias, or there is no bundle.
        StorageError: the folder may not be written.
    """
    match = _ALIAS.fullmatch(alias)
    if match is None:
        raise BundleError(f"{alias!r} is no alias; expected FOLDER@NAME, such as models@champion")
    where = resolve(model)
    if not exists(join(where, "bundle.json")):
        raise BundleError(f"{model} is not a model bundle: it has no bundle.json")
    beside = where.removeprefix(f"{canonical(match['folder'])}/")
    entry = {"model": beside, "promoted_at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_bytes(_file(match), json.dumps(entry, indent=1).encode())


def is_alias(alias: str, model: str) -> bool:
    """Whether an alias stands for this bundle."""
    match = _ALIAS.fullmatch(alias)
    return match is not None and exists(_file(match)) and resolve(alias) == canonical(model)


def resolve(model: str) -> str:
    """The bundle's folder that a path or an alias stands for.

    Raises:
        BundleError: there is no such alias.
    """
    match = _ALIAS.fullmatch(model.rstrip("/"))
    if match is None or exists(join(model, "bundle.json")):
        return canonical(model)
    try:
        where = str(json.loads(read_bytes(_file(match)))["model"])
    except FileNotFoundError:
        raise BundleError(
            f"no model {model}: {_file(match)} does not exist; `raysvq promote` makes an alias"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"model {model}: {_file(match)} cannot be read: {error}") from None
    return where if where.startswith("/") or "://" in where else join(canonical(match["folder"]), where)


def _file(match: re.Match[str]) -> str:
    return join(canonical(match["folder"]), f"{match['alias']}.alias.json")
