"""Commits of runs that were killed before their record: entered into the ledger, and counted in tonight's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from raysvq.errors import RaysvqError
from raysvq.fleet.night.entering import LedgerWriter
from raysvq.fleet.night.evidence import read_committed
from raysvq.fleet.night.nights import Work
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.results import read_snapshot

READERS = 16  # cameras whose commits are looked at, at once


def left_behind(
    plans: Mapping[str, CameraPlan],
    out: str,
    known: Mapping[str, int],
    noted: Collection[str],
    ledger: LedgerWriter,
) -> dict[str, Work]:
    """What earlier runs committed at these cameras since their last nights.

    Args:
        plans: of cameras for which nothing is committed tonight.
        out: the fleet's folder.
        known: camera -> version of its scores as of its last night.
        noted: cameras that runs before were about to commit when they were killed.

    Returns:
        The cameras that have such commits, or whose commits cannot be read.
    """

    def of(name: str) -> Work | None:
        plan, before = plans[name], known.get(name, 0)
        scores = plan.camera.folder(out)
        entered = before if name in noted else plan.version  # of a killed run, some rows may not be
        try:
            version = max(plan.version, read_snapshot(scores).version if name in noted else 0)
            if version <= before:
                return None
            return Work(committed=read_committed(name, scores, before, entered, version, ledger.add))
        except RaysvqError as error:
            return Work(failure=f"what an earlier run committed cannot be read: {error}", entered=False)

    asked = [name for name, plan in plans.items() if name in noted or plan.version > known.get(name, 0)]
    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(asked, pool.map(of, asked), strict=True))
    return {name: work for name, work in found.items() if work}
