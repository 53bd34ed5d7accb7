"""A night's inspection of a whole fleet, from its lease to its record.

The cameras' score directories are the truth of what is scored; the ledger may lag behind them, and is caught
up. So each step may be the last one of a run that is killed: the next run ends with the same rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from raysvq import log
from raysvq.errors import DataError
from raysvq.fleet.listing.listing import named
from raysvq.fleet.night.entering import LedgerWriter
from raysvq.fleet.night.left_behind import left_behind
from raysvq.fleet.night.nights import Work, make_night
from raysvq.fleet.night.record import Started, make_record
from raysvq.fleet.night.telling import tell, try_to
from raysvq.fleet.night.unfinished import cameras_of, clear_unfinished, find_unfinished, note_unfinished
from raysvq.fleet.night.watching import watch_night
from raysvq.fleet.options import InspectOptions
from raysvq.fleet.planning.prepare import Prepared, prepare
from raysvq.fleet.rescoring import to_rescore
from raysvq.fleet.settings.fleet import Fleet
from raysvq.fleet.views.summary import summary_lines
from raysvq.ledger.nights import write_nights
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import next_number, publish_run
from raysvq.results.format import new_run_id
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
    fleet, options = to_rescore(fleet, options)
    now = datetime.now(UTC)
    run_id = new_run_id()
    with _lease(fleet.out, run_id, options.wait_s) as require_held, tempfile.TemporaryDirectory() as name:
        require_put_if_absent(fleet.out)
        started = Started(next_number(fleet.out), run_id, now)
        run, nights = _inspect(fleet, options, started, require_held, Path(name))
    if options.rescore:
        log.info(f"results and ledger: {fleet.out}", "rescored", out=fleet.out)
    log.info("\n".join(summary_lines(run, nights)), "result", **_fields(run))
    return run


def _inspect(
    fleet: Fleet, options: InspectOptions, started: Started, require_held: RequireHeld, folder: Path
) -> tuple[FleetRun, Mapping[str, CameraNight]]:
    """The run, and the cameras' nights. Its record is written last."""
    noted = cameras_of(find_unfinished(fleet.out))
    prepared = prepare(fleet, options, started.at, folder, noted)
    work, images_per_s = _work(fleet, prepared, noted, started.run_id, require_held)
    nights = _nights(prepared, work, started.run_id)
    problems = [named(prefix, why) for prefix, why in prepared.unlisted.items()]

    def watch() -> None:
        asked, plans = prepared.asked, prepared.plans
        nights.update(watch_night(fleet, asked, plans, work, nights, started.at, problems))

    if not options.rescore:  # whose nights are over
        try_to("watching", watch, problems)
    require_held()
    write_nights(fleet.out, started.number, nights)
    run = make_record(fleet, options, started, prepared, nights, images_per_s, problems)
    if not options.rescore:
        cameras = {camera: plan.camera for camera, plan in prepared.plans.items()}
        run = tell(fleet, run, nights, prepared.asked, cameras)
    require_held()
    publish_run(fleet.out, run)
    entered = {camera for camera in nights if work.get(camera, Work()).entered}
    dropped = {camera for camera, fields in noted.items() if fleet.entry_of(camera, fields) is None}
    clear_unfinished(find_unfinished(fleet.out), entered | dropped)
    return run, nights


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
        What became of each camera that has commits or failures, and the images scored per second.
    """
    ledger = LedgerWriter(fleet.out)
    for table in prepared.deletions():
        ledger.add(table)
    work: dict[str, Work] = {}
    images_per_s = 0.0
    # What is committed at a camera that the last runs passed by, or forgot, counted in runs before them.
    passed_by = {name: plan.version for name, plan in prepared.plans.items() if name not in noted}
    known = passed_by | prepared.asked.known
    if pending := prepared.pending:
        from raysvq.fleet.night.work import score_night  # brings Ray and PyTorch

        note_unfinished(fleet.out, run_id, (plan.camera for plan in pending.values()))
        began = time.monotonic()
        work = dict(score_night(pending, prepared.requests(), known, ledger, require_held, run_id))
        images_per_s = sum(each.done for each in work.values()) / (time.monotonic() - began)
    others = {camera: plan for camera, plan in prepared.plans.items() if camera not in work}
    work |= left_behind(others, fleet.out, known, noted, ledger)
    ledger.flush()
    return work, images_per_s


def _nights(prepared: Prepared, work: Mapping[str, Work], run_id: str) -> dict[str, CameraNight]:
    asked = prepared.asked
    return {
        camera: make_night(
            plan,
            asked.window_of(camera),
            work.get(camera, Work()),
            asked.before.get(camera),
            run_id,
            asked.night.isoformat(),
        )
        for camera, plan in prepared.plans.items()
    }


def _fields(run: FleetRun) -> dict[str, object]:
    """For machines."""
    names = ("run_id", "number", "night", "cameras", "scored", "anomalous", "rejected", "skipped", "failed")
    return {name: getattr(run, name) for name in names} | {"exit_code": run.exit_code}
