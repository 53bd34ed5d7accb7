"""Patience with a store that does not answer, or not well.

A transient problem (the store is overloaded, restarts, breaks off) is tried again after a growing,
random pause, for `storage.retry_s` seconds without progress and one attempt. What is persisted with is one
request: a page of a listing, a part of an upload, what comes of a download until it breaks. Until a process
has heard from a store for the first time, it tries for FIRST_CONTACT_S seconds only: a wrong or dead
endpoint shows when a command starts, not minutes later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from raysvq import log
from raysvq.storage.errors import TransientError

FIRST_CONTACT_S = 10.0
WARN_AFTER_S = 5.0

_PAUSE = wait_random_exponential(multiplier=0.2, max=5)

Result = TypeVar("Result")


@dataclass
class Contact:
    """What a process knows of a store."""

    reached: bool = False
    warned: bool = False  # that requests wait for it
    lock: threading.Lock = field(default_factory=threading.Lock)

    def persist(self, uri: str, call: Callable[[], Result], retry_s: float) -> Result:
        """The result of `call`, which is made again while it raises TransientError.

        Raises:
            OSError: what the last call raised.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=lambda state: min(_PAUSE(state), max(self._left(state, retry_s), 0.0)),
            stop=lambda state: self._left(state, retry_s) <= 0,
            before_sleep=lambda state: self._warn(state, uri),
            reraise=True,
        )
        try:
            result = retrying(call)
        except TransientError:
            raise
        except OSError:  # it answered
            self.reached = True
            raise
        self.reached, self.warned = True, False
        return result

    def _left(self, state: RetryCallState, retry_s: float) -> float:
        limit = retry_s if self.reached else min(retry_s, FIRST_CONTACT_S)
        return limit - (state.seconds_since_start or 0.0)

    def _warn(self, state: RetryCallState, uri: str) -> None:
        """Once per outage, however many threads wait."""
        if (state.seconds_since_start or 0.0) + state.upcoming_sleep < WARN_AFTER_S:
            return
        with self.lock:
            first, self.warned = not self.warned, True
        if first and state.outcome is not None:
            log.warning(f"waiting for {uri}: {state.outcome.exception()}", "waiting", uri=uri)
