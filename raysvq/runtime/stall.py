"""Reports of a stalled run: for how long nothing happened, and what is free in the cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from raysvq import log

QUIET_S = 60.0


@contextmanager
def stall_reporter(sign: str, quiet_s: float = QUIET_S) -> Iterator[threading.Event]:
    """Print what is free in the cluster whenever the yielded event was not set for `quiet_s` seconds.

    Args:
        sign: name of what sets the event, such as "work unit finished".
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
                log.warning(f"no {sign} for {quiet:.0f} s; {_cluster()}", "stall", quiet_s=quiet)

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
