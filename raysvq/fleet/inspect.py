"""A night's inspection of a whole fleet, from its lease to its record.

The cameras' score directories are the truth of what is scored; the ledger may lag behind them, and is caught
up. So each step may be the last one of a run that is killed: the next run ends with the same rows.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from raysvq import __version__, log
from raysvq.errors import DataError, RaysvqError
from raysvq.fleet.entering import LedgerWriter
from raysvq.fleet.evidence import read_committed
from raysvq.fleet.nights import Work, make_night
from raysvq.fleet.options import InspectOptions, exit_code
from raysvq.fleet.prepare import Prepared, prepare
from raysvq.fleet.rescoring import fleet_to_rescore
from raysvq.fleet.settings import Fleet
from raysvq.fleet.summary import summary_lines
from raysvq.fleet.telling import tell, try_to
from raysvq.fleet.unfinished import cameras_of, clear_unfinished, find_unfinished, note_unfinished
from raysvq.fleet.watching import watch_night
from raysvq.ledger.nights import write_nights
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import next_number, publish_run
from raysvq.results import read_snapshot
from raysvq.runtime.lease import lease
from raysvq.storage import configure, require_put_if_absent

ASK_AGAIN_S = 2.0  # while another run is at work

RequireHeld = Callable[[], None]


def inspect(fleet: Fleet, options: InspectOptions) -> FleetRun:
    """Find what is new at every camera, score it, watch, and tell people.

    Stopped at any instant and started again, it goes on where it was. What is wrong with one camera is its
    failure, and the others go on.

    Returns:
        The run, as its record has it; `exit_code` says how it went.

    Raises:
        DataError: another run is at work, two cameras claim one image, or the ledger is damaged or of a later
            version.
        SettingsError: the cluster cannot be reached, or is too small.
        StorageError: the fleet's folder may not be written, or its store does not answer.
        BundleError: there is no such model to rescore with.
    """
    configure(fleet.settings.storage)
    if options.rescore:
        fleet = fleet_to_rescore(fleet, options.rescore)
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    with _lease(fleet.out, run_id, options.wait_s) as require_held, tempfile.TemporaryDirectory() as name:
        require_put_if_absent(fleet.out)
        number = next_number(fleet.out)
        noted = cameras_of(find_unfinished(fleet.out))
        prepared = prepare(fleet, options, now, Path(name), noted)
        work, seconds = _work(fleet, prepared, noted, run_id, require_held)
        nights = {
            camera: make_night(
                plan,
                prepared.asked.window_of(camera),
                work.get(camera, Work()),
                prepared.asked.before.get(camera),
                run_id,
                prepared.asked.night.isoformat(),
            )
            for camera, plan in prepared.plans.items()
        }
        problems = [
            why if why.startswith(prefix) else f"{prefix}: {why}" for prefix, why in prepared.unlisted.items()
        ]

        def watch() -> None:
            nights.update(watch_night(fleet, prepared.asked, prepared.plans, work, nights, now))

        if not options.rescore:
            try_to("watching", watch, problems)
        require_held()
        write_nights(fleet.out, number, nights)
        run = _record(fleet, options, prepared, number, run_id, now, nights, work, seconds, problems)
        if not options.rescore:
            cameras = {camera: plan.camera for camera, plan in prepared.plans.items()}
            run = tell(fleet, run, nights, prepared.asked, cameras)
        require_held()
        publish_run(fleet.out, run)
        entered = {camera for camera in nights if work.get(camera, Work()).entered}
        clear_unfinished(find_unfinished(fleet.out), entered)
    log.info("\n".join(summary_lines(run, nights)), "result", **_fields(run))
    return run


@contextmanager
def _lease(out: str, run_id: str, wait_s: float) -> Iterator[RequireHeld]:
    """The fleet's lease, once a run that is at work has ended, if that is within `wait_s` seconds."""
    deadline = time.monotonic() + wait_s
    with ExitStack() as stack:
        while True:
            try:
                require_held = stack.enter_context(lease(out, run_id))
                break
            except DataError as error:
                if time.monotonic() >= deadline:
                    raise DataError(f"{error}; --wait SECONDS queues behind it") from None
                log.info(f"waiting: {error}", "waiting")
            time.sleep(ASK_AGAIN_S)
        yield require_held


def _work(
    fleet: Fleet, prepared: Prepared, noted: Collection[str], run_id: str, require_held: RequireHeld
) -> tuple[dict[str, Work], float]:
    """Score what is pending, and bring the ledger up to what is committed.

    Args:
        noted: cameras that runs before were about to commit when they were killed.

    Returns:
        What became of each camera that has commits or failures, and the seconds that scoring took.
    """
    ledger = LedgerWriter(fleet.out)
    for table in prepared.deletions():
        ledger.add(table)
    work: dict[str, Work] = {}
    started = time.monotonic()
    known = prepared.asked.known
    if pending := prepared.pending:
        from raysvq.fleet.work import score_night  # brings Ray and PyTorch

        note_unfinished(fleet.out, run_id, (plan.camera for plan in pending.values()))
        work = dict(score_night(pending, prepared.requests(), known, ledger, require_held, run_id))
    seconds = time.monotonic() - started
    for camera, plan in prepared.plans.items():
        scores, entered = plan.camera.folder(fleet.out), plan.version
        if camera in work:
            continue
        version = max(entered, read_snapshot(scores).version if camera in noted else 0)
        if version > known.get(camera, 0):
            try:
                given = known.get(camera, 0), entered, version, ledger.add
                work[camera] = Work(committed=read_committed(camera, scores, *given))
            except RaysvqError as error:
                failure = f"what an earlier run committed cannot be read: {error}"
                work[camera] = Work(failure=failure, entered=False)
    ledger.flush()
    return work, seconds


def _record(
    fleet: Fleet,
    options: InspectOptions,
    prepared: Prepared,
    number: int,
    run_id: str,
    started: datetime,
    nights: Mapping[str, CameraNight],
    work: Mapping[str, Work],
    seconds: float,
    problems: Collection[str],
) -> FleetRun:
    def total(name: str) -> int:
        return sum(getattr(night, name) for night in nights.values())

    done = sum(each.done for each in work.values())
    return FleetRun(
        number=number,
        run_id=run_id,
        fleet=fleet.name,
        night=prepared.asked.night.isoformat(),
        started_at=started.isoformat(timespec="seconds"),
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        fleet_digest=fleet.digest,
        arguments=options.arguments(),
        cameras=len(nights),
        by_state=dict(Counter(night.state for night in nights.values())),
        listed=total("listed"),
        scored=total("scored"),
        anomalous=total("anomalous"),
        rejected=total("rejected"),
        skipped=total("skipped"),
        failed=sum(night.state == "failed" for night in nights.values()),
        images_per_s=round(done / seconds, 3) if done else 0.0,
        worker_seconds=round(total("seconds"), 3),
        findings=dict(Counter(each.level for night in nights.values() for each in night.findings)),
        problems=tuple(problems),
        exit_code=exit_code(nights.values(), bool(prepared.unlisted), options.fail_on),
    )


def _fields(run: FleetRun) -> dict[str, object]:
    """For machines."""
    names = ("run_id", "number", "night", "cameras", "scored", "anomalous", "rejected", "skipped", "failed")
    return {name: getattr(run, name) for name in names} | {"exit_code": run.exit_code}
