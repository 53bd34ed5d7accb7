"""An end for decoders that hang."""

from __future__ import annotations

import faulthandler
import signal
import threading
from types import TracebackType


class Deadline:
    """Ends this process where decoding goes on for too long: a context manager, entered for every piece.

    Nothing less ends a decoder that hangs in C code, which may hold the interpreter's lock. The kernel's
    timer needs no thread and no lock, and costs a microsecond. Several threads may decode at once: the
    process ends when none of them has begun or ended a piece for so long. Where it hung is written to
    stderr.
    """

    def __init__(self, limit_s: float) -> None:
        """`limit_s` is for one piece: an image, or a band of a large one."""
        self._limit_s = limit_s
        self._inside = 0
        self._lock = threading.Lock()
        faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=True)

    def __enter__(self) -> None:
        self._count(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change
            signal.setitimer(signal.ITIMER_REAL, self._limit_s if self._inside else 0.0)
