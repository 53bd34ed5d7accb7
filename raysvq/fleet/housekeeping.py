"""House-keeping: small files of a fleet become large ones, what is past its retention goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from raysvq.fleet.settings import Fleet


@dataclass(frozen=True)
class HouseReport:
    """What house-keeping did, or would do."""

    def lines(self) -> Iterator[str]:
        """As people read it."""
        raise NotImplementedError


def keep_house(
    fleet: Fleet, grace: timedelta, require_held: Callable[[], None], plan: bool = False
) -> HouseReport:
    """Compact the cameras' scores and the ledger, and end the retention of old results.

    Killed at any instant, readers see the same rows, and the next one does the rest.

    Args:
        grace: how long files that were replaced stay, for those who read them.
        require_held: raises where another run may have taken the fleet over.
        plan: only say what it would do.

    Raises:
        StorageError: the ledger may not be read or written. What fails at one camera is in the report.
    """
    raise NotImplementedError
