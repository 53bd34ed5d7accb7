"""The record of a run, of what its cameras' nights come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from raysvq import __version__
from raysvq.fleet.options import InspectOptions, exit_code
from raysvq.fleet.planning.prepare import Prepared
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.records import CameraNight, FleetRun


@dataclass(frozen=True)
class Started:
    """A run that has the fleet's lease."""

    number: int  # of its record
    run_id: str
    at: datetime  # UTC


def make_record(
    fleet: Fleet,
    options: InspectOptions,
    started: Started,
    prepared: Prepared,
    nights: Mapping[str, CameraNight],
    images_per_s: float,
    problems: Sequence[str],
) -> FleetRun:
    """Sum up a run that ends now."""

    def total(name: str) -> int:
        return sum(getattr(night, name) for night in nights.values())

    return FleetRun(
        number=started.number,
        run_id=started.run_id,
        fleet=fleet.name,
        night=prepared.asked.night.isoformat(),
        started_at=started.at.isoformat(timespec="seconds"),
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
        images_per_s=round(images_per_s, 3),
        worker_seconds=round(sum(night.seconds for night in nights.values()), 3),
        findings=dict(Counter(each.level for night in nights.values() for each in night.findings)),
        problems=tuple(problems),
        templates_digest=fleet.templates_digest,
        exit_code=exit_code(nights.values(), bool(prepared.unlisted), options.fail_on),
    )
