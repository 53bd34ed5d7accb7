"""What a run tells while it works: counts, pace, and what it waits for when nothing happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray

REPORT_EVERY_S = 5.0
QUIET_S = 60.0  # without a finished work unit, after which the run says what it sees


@dataclass
class Progress:
    """Prints a line every few seconds, for so many images in all."""

    images: int
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def tell(self, done: int, rejected: int) -> None:
        """Images done so far, rejected ones among them."""
        now = time.monotonic()
        if now - self.told < REPORT_EVERY_S and done < self.images:
            return
        self.told = now
        pace = done / max(now - self.started, 1e-9)
        left = (self.images - done) / pace if pace else 0.0
        print(
            f"{done}/{self.images} images  {pace:.1f} images/s  {rejected} rejected  {duration(left)} left",
            flush=True,
        )


@contextmanager
def watchdog(quiet_s: float = QUIET_S) -> Iterator[threading.Event]:
    """Set the event at every sign of life; without one, a line says what the cluster has to offer."""
    alive, done = threading.Event(), threading.Event()

    def watch() -> None:
        quiet = 0.0
        while not done.is_set():
            if alive.wait(quiet_s):
                alive.clear()
                quiet = 0.0
                done.wait(1.0)
            elif not done.is_set():
                quiet += quiet_s
                print(f"no work unit finished for {quiet:.0f} s; {_cluster()}", flush=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield alive
    finally:
        done.set()
        alive.set()
        thread.join()


def _cluster() -> str:
    nodes = sum(node["Alive"] for node in ray.nodes())
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    return f"the cluster has {nodes} node(s), {', '.join(parts)}"


def duration(seconds: float) -> str:
    """As people say it: `2 h 05 min`, `3 min 20 s`, `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
