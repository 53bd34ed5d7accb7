"""How many images a run may reject for reasons outside them before it stops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from raysvq.errors import ScoringError
from raysvq.scoring.pending import OUTSIDE
from raysvq.scoring.rows import Row


def outside(reasons: Mapping[str, int]) -> dict[str, int]:
    """Of the counts by reason those that say nothing of the images: the store, keys, machine, model."""
    return {reason: images for reason, images in reasons.items() if reason in OUTSIDE}


@dataclass(frozen=True)
class Budget:
    """What `scoring.max_rejected` allows a run."""

    images: int  # of the run
    share: float
    known: int = 0  # images among them that were rejected so before; again is no news

    @property
    def allowed(self) -> int:
        """Images; one, where the share of a small run is less."""
        return self.known + math.ceil(round(self.share * self.images, 6))

    def holds(self, reasons: Mapping[str, int]) -> bool:
        """Whether these counts are within it."""
        return sum(outside(reasons).values()) <= self.allowed

    def require_kept(self, reasons: Mapping[str, int], example: Row | None) -> None:
        """Raise ScoringError where it is exceeded; `example` is a reject row."""
        if self.holds(reasons):
            return
        found = outside(reasons)
        listed = ", ".join(f"{reason} {images}" for reason, images in sorted(found.items()))
        such = f", such as {example['uri']}: {example['detail']}" if example else ""
        raise ScoringError(
            f"{sum(found.values())} of the run's {self.images} images are rejected for reasons outside them"
            f" ({listed}){such}; setting `scoring.max_rejected`: {self.share:g} allows {self.allowed}."
            " Nothing was committed: mend the cause, and start the run again, it goes on where it was"
        )
