"""Verbs that look after a whole fleet: what a schedule calls every night, and what tells why it cannot.

Stages are imported inside the commands: `--help`, `--status` and a night without work need neither Ray nor
PyTorch.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raysvq import log
from raysvq.cli.app import LogFormat, app
from raysvq.errors import SettingsError

if TYPE_CHECKING:
    from raysvq.fleet.options import InspectOptions
    from raysvq.fleet.settings.fleet import Fleet

FleetFile = Annotated[str, typer.Option("--fleet", help="fleet.yaml: cameras, models, what is expected.")]
FleetOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value, e.g. --set scoring.worst=4."),
]
_DAY = ["%Y-%m-%d"]


class FailOn(StrEnum):
    """Levels of findings."""

    WARNING = "warning"
    ERROR = "error"
    NEVER = "never"


@app.command(short_help="Inspect a whole fleet: score what is new at every camera, watch, tell people.")
def inspect(
    fleet: FleetFile,
    check: Annotated[
        bool, typer.Option("--check", help="Print what fleet.yaml says of each camera; score nothing.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Print the state of each camera, as the ledger has it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --status or --check: as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and how long it may take.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Cameras, as a pattern such as 'north.*'; may be repeated.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First day to list; by default as the ledger says.")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=_DAY, help="Last day to list, and night of the run; by default today."),
    ] = None,
    rescore: Annotated[
        str | None,
        typer.Option(help="Score the days from --since on with this model, into other results."),
    ] = None,
    repair: Annotated[
        str | None, typer.Option(help="Number of a run: inspect again only the cameras that failed in it.")
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Level of findings from which on the exit code is 1.")
    ] = FailOn.ERROR,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to queue behind a run that is at work; it is refused after.")
    ] = 0.0,
    overrides: FleetOverrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Find what is new, replaced or deleted at every camera of fleet.yaml since the last run, score it as one
    job, commit camera by camera, compare with what was before, and write ledger, page, digest and alerts.

    \b
      raysvq inspect --fleet fleet.yaml --check      what it finds; scores nothing
      raysvq inspect --fleet fleet.yaml --dry-run    what tonight would do, and how long it takes
      raysvq inspect --fleet fleet.yaml              the night: the line for a schedule
      raysvq inspect --fleet fleet.yaml --status     what the ledger says of each camera

    Stopped at any instant and started again, it goes on where it was. A camera that fails is named, and the
    others go on. A night that was missed is caught up. Where nothing is new it ends in seconds.

    The exit code is 0 where all went well; 1 where cameras failed, or findings are of the level of --fail-on;
    2 where nothing could run.
    """
    from raysvq.fleet.options import InspectOptions
    from raysvq.fleet.settings.file import load_fleet

    ways = {"--check": check, "--status": status, "--dry-run": dry_run}
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(chosen)} exclude each other")
    if as_json and not (check or status):
        raise SettingsError("--json goes with --status or --check")
    options = InspectOptions(
        only=tuple(only or ()),
        since=since.date() if since else None,
        until=until.date() if until else None,
        rescore=rescore,
        repair=repair,
        fail_on=fail_on.value,
        wait_s=wait,
    )
    of_fleet = load_fleet(fleet, overrides or ())
    if check:
        raise typer.Exit(_check(of_fleet, options, as_json))
    elif status:
        _status(of_fleet, options, as_json)
    elif dry_run:
        from raysvq.fleet.views.dry_run import dry_run as look

        log.info("\n".join(look(of_fleet, options).lines()), "result")
    else:
        from raysvq.fleet.inspect import inspect as run

        raise typer.Exit(run(of_fleet, options).exit_code)


def _check(fleet: Fleet, options: InspectOptions, as_json: bool) -> int:
    from raysvq.fleet.options import ALL_WELL, SOME_FAILED
    from raysvq.fleet.views.check import check_fleet

    until = options.until or fleet.today(datetime.now(UTC))
    since = options.since or until - timedelta(days=fleet.catch_up_days)
    found = check_fleet(fleet, since, until, options.only)
    log.info(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()), "result")
    return ALL_WELL if found.is_well else SOME_FAILED


def _status(fleet: Fleet, options: InspectOptions, as_json: bool) -> None:
    from raysvq.fleet.views.status import read_status
    from raysvq.storage import configure

    configure(fleet.settings.storage)
    found = read_status(fleet.out, options.only)
    log.info(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(found.lines()), "result")


@app.command(short_help="Say whether a fleet can be inspected from here, and what to mend.")
def doctor(
    folders: Annotated[
        list[str] | None, typer.Argument(help="Folders or prefixes that results are to be written to.")
    ] = None,
    fleet: Annotated[
        str | None, typer.Option("--fleet", help="fleet.yaml: its folders, models, routes and cluster.")
    ] = None,
    overrides: FleetOverrides = None,
    log_format: LogFormat = log.Format.AUTO,
) -> None:
    """Try what a run needs: rights to list, read, write and put-if-absent, the clock, models, the environment
    variables of routes, and on every machine of the cluster versions, GPUs and free disk.

    Each line says ok, warning or problem, and what to do. What is written to try it is removed again. The
    exit code is 1 where there is a problem.
    """
    from raysvq.fleet.settings.file import load_fleet
    from raysvq.fleet.upkeep import doctor as tries
    from raysvq.fleet.upkeep.nodes import machines
    from raysvq.settings import RaySettings
    from raysvq.storage import canonical

    if not folders and fleet is None:
        raise SettingsError("expected --fleet fleet.yaml, or folders that results are to be written to")
    of_fleet = load_fleet(fleet, overrides or ()) if fleet is not None else None
    found = [check for folder in folders or () for check in tries.check_folder(canonical(folder))]
    nodes = machines(of_fleet.settings.ray if of_fleet else RaySettings())
    found += tries.doctor(of_fleet, nodes) if of_fleet else tries.check_nodes(nodes)
    for check in found:
        log.info(check.line(), "check", state=check.level, subject=check.subject, advice=check.advice)
    raise typer.Exit(int(any(check.level == "problem" for check in found)))
