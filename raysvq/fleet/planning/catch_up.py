"""Whether the ledger knows all that a camera has committed, and telling it what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from raysvq import log
from raysvq.errors import DataError, RaysvqError
from raysvq.fleet.planning.committed import entries_since
from raysvq.ledger.entries import append_entries
from raysvq.results.commit_log import list_records, read_record

ASKED_AT_ONCE = 32  # cameras whose commits are looked at
READ_AT_ONCE = 4  # cameras whose commits are read


@dataclass
class Versions:
    """Of some cameras' newest commits; 0: none."""

    found: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why there is none to be had

    def find(self, folders: Mapping[str, str]) -> None:
        """Look up those that are not known yet.

        Args:
            folders: camera -> its score directory.
        """
        left = [name for name in folders if name not in self.found and name not in self.failures]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            for name, answer in zip(left, pool.map(lambda name: _newest(folders[name]), left), strict=True):
                if isinstance(answer, int):
                    self.found[name] = answer
                else:
                    self.failures[name] = str(answer)

    def require(self, folders: Mapping[str, str], known: Mapping[str, int]) -> None:
        """Note a failure for each camera whose commits are behind what the ledger knows of them."""
        for name in folders.keys() & self.found.keys():
            if self.found[name] < known.get(name, 0):
                self.failures[name] = (
                    f"{folders[name]} holds version {self.found[name]}, but the ledger knows version"
                    f" {known[name]}: the folder was emptied or rolled back; put it back, or give the camera"
                    " another name"
                )

    def catch_up(self, out: str, folders: Mapping[str, str], known: Mapping[str, int]) -> int:
        """Add the entries of all commits after the known ones; those that are there already do no harm.

        Args:
            out: the fleet's folder.
            folders: cameras to catch up, with their score directories.
            known: camera -> version up to which the ledger has all entries.

        Returns:
            How many rows were added.
        """

        def of(name: str) -> int | RaysvqError:
            try:
                rows = 0
                for table in entries_since(name, folders[name], known.get(name, 0)):
                    append_entries(out, table)
                    rows += table.num_rows
                return rows
            except RaysvqError as error:
                return error

        behind = [
            name
            for name in sorted(folders)
            if name not in self.failures and self.found[name] > known.get(name, 0)
        ]
        added = 0
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            for name, answer in zip(behind, pool.map(of, behind), strict=True):
                if isinstance(answer, RaysvqError):
                    self.failures[name] = f"its commits cannot be entered in the ledger: {answer}"
                else:
                    added += answer
        if added:
            log.info(f"the ledger was behind the commits of {len(behind)} cameras: {added} images entered")
        return added


def _newest(scores: str) -> int | RaysvqError:
    """The number of the newest record; one that was cut off does not count."""
    try:
        numbers = list_records(scores)[0]
        for number in sorted(numbers, reverse=True)[:2]:
            if read_record(numbers[number].uri):
                return number
    except FileNotFoundError as error:
        return DataError(f"{error} is gone, which was listed just now")
    except RaysvqError as error:
        return error
    return 0 if not numbers else DataError(f"{scores}: its newest commit records are damaged")
