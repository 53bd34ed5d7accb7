"""What a run waits for when nothing happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

QUIET_S = 60.0  # without a sign of life, after which the run says what it sees


@contextmanager
def stall_reporter(sign: str, quiet_s: float = QUIET_S) -> Iterator[threading.Event]:
    """Set the event at every sign of life; without one, a line says what the cluster has to offer.

    Args:
        sign: what has not happened then, such as "work unit finished".
    """
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
                print(f"no {sign} for {quiet:.0f} s; {_cluster()}", flush=True)

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
