"""Rows on their way into the ledger, many cameras in one file."""

from __future__ import annotations

import threading
import time

import pyarrow as pa

from raysvq.ledger.entries import append_entries
from raysvq.ledger.records import ENTRIES

MAX_ROWS = 100_000  # that wait
MAX_S = 15.0  # that a row waits while others come


class LedgerWriter:
    """Appends entries in batches. What is lost on the way, the next run finds in the cameras' commits."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()

    def add(self, table: pa.Table) -> None:
        """Take rows of ENTRIES; thread-safe.

        Raises:
            StorageError: the ledger cannot be written.
        """
        with self._lock:
            self._waiting.append(table.select(ENTRIES.names).cast(ENTRIES))
            late = time.monotonic() - self._since > MAX_S
            if late or sum(each.num_rows for each in self._waiting) >= MAX_ROWS:
                self._write()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            StorageError: the ledger cannot be written.
        """
        with self._lock:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            append_entries(self._out, pa.concat_tables(self._waiting))
        self._waiting, self._since = [], time.monotonic()
