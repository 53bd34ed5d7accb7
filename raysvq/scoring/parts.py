"""Many score directories in one Ray job: each a run of its own, with its own commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from raysvq.errors import RaysvqError
from raysvq.scoring.pending import Pending
from raysvq.scoring.plan import Request
from raysvq.scoring.summary import ScoreSummary
from raysvq.scoring.takeover import Leftovers
from raysvq.settings import Settings


@dataclass(frozen=True)
class Part:
    """One score directory, and the images to score into it."""

    name: str  # for people, and to tell its outcome by
    request: Request
    pending: Pending  # `version` is that of the newest commit that it was made from
    max_seconds: float | None = None  # of all its workers; None: as long as it takes
    leftovers: Leftovers | None = None  # of interrupted runs; None: looked up


@dataclass(frozen=True)
class PartOutcome:
    """How a part ended: with a commit, or with a failure."""

    name: str
    summary: ScoreSummary | None  # None where it failed
    failure: RaysvqError | None  # why nothing is committed; finished work units wait for the next run
    version: int  # of the newest commit: its own, or where it failed the one before


def score_parts(
    parts: Sequence[Part], settings: Settings, require_held: Callable[[], None]
) -> Iterator[PartOutcome]:
    """Score all parts as one Ray job.

    Each part is committed as soon as its last image is done, before its outcome is yielded. What is wrong
    with one part ends that one alone.

    Args:
        parts: each with another score directory.
        settings: of scoring, storage and ray; the same for all.
        require_held: raises where another process has taken over; asked before commits.

    Yields:
        One outcome for each part, in the order in which they end.

    Raises:
        SettingsError: the cluster cannot be reached, or is too small.
        DataError: as `require_held` raises.
    """
    raise NotImplementedError
