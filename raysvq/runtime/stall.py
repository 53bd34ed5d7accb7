"""Reports of a stalled run: for how long nothing happened, and what is free in the cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from raysvq import log
from raysvq.runtime.cluster import machines_up

QUIET_S = 60.0
Needs = Mapping[str, float]  # what a task asks Ray for, such as {"CPU": 1.0}


@contextmanager
def stall_reporter(
    sign: str, quiet_s: float = QUIET_S, needs: Needs | None = None
) -> Iterator[threading.Event]:
    """Print what is free in the cluster whenever the yielded event was not set for `quiet_s` seconds.

    Args:
        sign: name of what sets the event, such as "work unit finished".
        needs: of one task. Where no machine has that much, this is said at once.
    """
    alive, done = threading.Event(), threading.Event()
    wanted = f"a task needs {listed(needs)}; " if needs else ""
    if needs and not _is_there(needs):
        log.info(f"waiting for a machine with {listed(needs)}: {_cluster()}", "hint")

    def watch() -> None:
        quiet = 0.0
        while not done.is_set():
            if alive.wait(quiet_s):
                alive.clear()
                quiet = 0.0
                done.wait(1.0)
            elif not done.is_set():
                quiet += quiet_s
                log.warning(f"no {sign} for {quiet:.0f} s; {wanted}{_cluster()}", "stall", quiet_s=quiet)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield alive
    finally:
        done.set()
        alive.set()
        thread.join()


def listed(needs: Needs) -> str:
    """For people: `1 CPU and 0.5 GPU`."""
    return " and ".join(f"{amount:.2g} {kind}" for kind, amount in needs.items())


def _is_there(needs: Needs) -> bool:
    """Whether a machine that is up has so much, free or not."""
    return any(all(each.get(kind, 0) >= needs[kind] for kind in needs) for each in machines_up())


def _cluster() -> str:
    nodes = len(machines_up())
    total, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    return f"the cluster has {nodes} node(s), {', '.join(parts)}"
