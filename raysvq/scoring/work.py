"""What a run leaves below a score directory until it is committed.

_work/<run id>/pending.parquet   the rows it scores; unit n is the n-th range of `unit_images` of them
_work/<run id>/run.json          what else its rows depend on; written when the rows are in place
_work/<run id>/begun/<n>         how often a unit was begun
_work/<run id>/receipts/<n>.json counts and files of a finished unit
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from raysvq.errors import StorageError
from raysvq.scoring.pending import PENDING
from raysvq.scoring.rows import Row
from raysvq.settings import ScoringSettings
from raysvq.storage import exists, join, list_objects, put_file, read_bytes, remove_folder, write_bytes

WORK = "_work"
_RUN, _RECEIPTS = "run.json", "receipts"


@dataclass(frozen=True)
class Run:
    """What decides whether another run may take over the units of this one."""

    run_id: str
    retry_rejected: bool
    decides: Row  # all that rows depend on, beside the images
    version: int  # of what was committed when it began
    unit_images: int = 0  # once it has begun

    def folder(self, out: str) -> str:
        """Where its work is."""
        return join(out, WORK, self.run_id)

    def begin(self, out: str, rows: Path, unit_images: int) -> str:
        """Put the rows to score in place, to be cut into units of so many; returns the folder."""
        folder = self.folder(out)
        put_file(rows, join(folder, PENDING))
        content = asdict(self) | {"unit_images": unit_images}
        write_bytes(join(folder, _RUN), json.dumps(content).encode())
        return folder


def new_run(origin: Row, scoring: ScoringSettings, version: int) -> Run:
    """A run that begins. `origin` has the provenance columns of its rows."""
    decides = {name: value for name, value in origin.items() if name != "run_id"}
    decides["heatmaps"] = scoring.heatmaps
    return Run(origin["run_id"], scoring.retry_rejected, decides, version)


def receipt_uri(folder: str, number: int) -> str:
    """Of a finished unit."""
    return join(folder, _RECEIPTS, f"{number:09d}.json")


def read_receipt(folder: str, number: int) -> Row | None:
    """What was done of a unit; None where it is not finished, or its receipt was cut off as it was written.

    File systems without hard links leave such ones behind a process that was killed.
    """
    try:
        return dict(json.loads(read_bytes(receipt_uri(folder, number))))
    except (FileNotFoundError, ValueError):
        return None


def begun_uri(folder: str, number: int) -> str:
    """Of a unit that is at work, or was."""
    return join(folder, "begun", f"{number:09d}")


def work_folders(out: str) -> dict[str, list[int]]:
    """URIs of the folders that runs have left, with the numbers of their finished units; oldest first."""
    above = join(out, WORK)
    found: defaultdict[str, list[int]] = defaultdict(list)
    for info in list_objects(above, must_exist=False):
        run_id, _, name = info.uri.removeprefix(f"{above}/").partition("/")
        units = found[join(above, run_id)]
        kind, _, number = name.removesuffix(".json").partition("/")
        if kind == _RECEIPTS and name.endswith(".json") and number.isdecimal():
            units.append(int(number))
    return {folder: sorted(found[folder]) for folder in sorted(found)}


def read_run(folder: str) -> Run | None:
    """Whose work is in a folder; None where it has not begun, was being removed, or is another version's."""
    if not all(exists(join(folder, name)) for name in (_RUN, PENDING)):
        return None
    with suppress(TypeError):
        return Run(**json.loads(read_bytes(join(folder, _RUN))))
    return None


def remove_work(folders: list[str]) -> None:
    """Remove what is of no use any more; what stays is not taken over either."""
    for folder in folders:
        with suppress(StorageError):
            remove_folder(folder)
