"""What a run tells while it works: counts and pace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

REPORT_EVERY_S = 5.0


@dataclass
class Progress:
    """Prints a line every few seconds, for so many images in all."""

    images: int
    before: int = 0  # done when it starts: they count, but say nothing of the pace
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def tell(self, done: int, rejected: int) -> None:
        """Images done so far, rejected ones among them."""
        now = time.monotonic()
        if now - self.told < REPORT_EVERY_S and done < self.images:
            return
        self.told = now
        pace = (done - self.before) / max(now - self.started, 1e-9)
        left = (self.images - done) / pace if pace else 0.0
        print(
            f"{done}/{self.images} images  {pace:.1f} images/s  {rejected} rejected  {duration(left)} left",
            flush=True,
        )


def duration(seconds: float) -> str:
    """As people say it: `2 h 05 min`, `3 min 20 s`, `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
