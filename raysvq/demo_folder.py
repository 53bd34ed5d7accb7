"""The folder of a demo: an inventory of what a demo made there, so that the next one removes just that."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raysvq.errors import DataError

PRODUCTS = ("sample", "manifest.parquet", "model", "scores", "report")
_MARK = ".raysvq-demo"


def demo_folder(out: str) -> Path:
    """The folder that `out` names.

    Raises:
        DataError: it is no local folder.
    """
    if "://" in out:
        raise DataError(f"{out}: a demo makes a local folder; choose another --out")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{out} is a file; expected a folder, which the demo makes")
    return folder


def require_own(folder: Path) -> None:
    """Refuse a folder with anything that no demo left there as it is.

    Raises:
        DataError: it names the first such file.
    """
    ours = _inventory(folder)
    for name, state in _files(folder):
        if name != _MARK and ours.get(name) != state:
            raise DataError(
                f"{folder} holds files that no demo made, or that changed since, such as {name}; it removes"
                " only what it made: choose another --out, or remove the folder yourself"
            )


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """Remove what an earlier demo left; note what this one leaves, however it ends.

    Raises:
        DataError: see `require_own`.
    """
    require_own(folder)
    for name in [name for name, _ in _files(folder)]:
        (folder / name).unlink()
    for product in PRODUCTS:
        for parent, _, _ in os.walk(folder / product, topdown=False):
            if not os.listdir(parent):
                os.rmdir(parent)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        made = {name: state for name, state in _files(folder) if Path(name).parts[0] in PRODUCTS}
        (folder / _MARK).write_text(json.dumps({"folder": str(folder.resolve()), "files": made}))


def require_outside(folder: Path, uri: str, named_by: str) -> None:
    """Refuse an image set that the demo would take away.

    Raises:
        DataError: `uri`, with links resolved, lies in the folder.
    """
    if "://" not in uri and Path(os.path.realpath(uri)).is_relative_to(folder.resolve()):
        raise DataError(
            f"{uri}, {named_by}, lies in {folder}, which the demo empties first; choose another --out"
        )


def _inventory(folder: Path) -> dict[str, list[int]]:
    """What the last demo made: paths below the folder, and the size of each and when it was written last.

    Nothing where the mark is of another folder or of none.
    """
    try:
        content = json.loads((folder / _MARK).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("folder") != str(folder.resolve()):
        return {}
    files: dict[str, list[int]] = content["files"]
    return files


def _files(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """All that is no folder; links are not followed, and are nobody's that a demo made."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent) / name
            state = path.lstat()
            yield str(path.relative_to(folder)), [state.st_size, state.st_mtime_ns]
