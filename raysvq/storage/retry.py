"""Retries of requests to a store that fails transiently: overloaded, restarting, connection broken.

Each request (a page of a listing, a part of an upload, the rest of a download) is tried again after growing,
random pauses, for `storage.retry_s` seconds without progress and one last attempt. A process that has never
reached the store tries for FIRST_CONTACT_S seconds only, so that a wrong endpoint shows at once.
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
    """State of this process's requests to one store."""

    reached: bool = False
    warned: bool = False  # whether the present outage was reported
    lock: threading.Lock = field(default_factory=threading.Lock)

    def persist(self, uri: str, call: Callable[[], Result], retry_s: float) -> Result:
        """The result of `call`, repeated while it raises TransientError.

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
