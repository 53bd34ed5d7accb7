"""A camera's night, of what was planned, what was committed, and how it was before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from raysvq.fleet.night.evidence import Committed
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.planning.windows import Window
from raysvq.fleet.watch import Watched
from raysvq.ledger.records import CameraNight, State

if TYPE_CHECKING:
    from raysvq.scoring.request import Request

_CARRIED = (
    *("model_version", "model_digest", "settings_digest", "policy", "decisions_digest"),
    *("threshold", "promised_rate"),
)


@dataclass(frozen=True)
class Work:
    """What became of a camera's work."""

    request: Request | None = None  # that its images were to be scored with
    committed: Committed | None = None  # its commits since its last night
    done: int = 0  # images that this run scored or rejected
    seconds: float = 0.0  # of its workers
    failure: str | None = None
    entered: bool = True  # whether the ledger has all its commits


def make_night(
    plan: CameraPlan, window: Window, work: Work, before: CameraNight | None, run_id: str, night: str
) -> CameraNight:
    """The counts of a camera's night. Its state is that of its work: findings may make it worse.

    Args:
        window: days that were listed of it.
        before: the camera's last night.
    """
    committed = work.committed or Committed(plan.version)
    failure = "; ".join(filter(None, (plan.failure, work.failure))) or None
    to_do = plan.new + plan.replaced + plan.retried
    # What a run committed that was killed before its record is in the ledger, and was in no night.
    earlier = max(0, committed.scored + sum(committed.rejects.values()) - work.done)
    listed = window if plan.listed or not plan.failure else None
    found = CameraNight(
        camera=plan.camera.name,
        run_id=run_id,
        night=night,
        state="failed" if failure else "ok" if to_do or plan.deleted or committed.scored else "quiet",
        fields=dict(plan.camera.fields),
        listed_since=listed.since.isoformat() if listed else None,
        listed_until=listed.until.isoformat() if listed else None,
        listed=plan.listed,
        new=plan.new + earlier,
        replaced=plan.replaced,
        deleted=plan.deleted,
        scored=committed.scored,
        anomalous=committed.anomalous,
        rejected=sum(committed.rejects.values()),
        skipped=max(0, to_do - work.done),
        rejects=committed.rejects,
        failure=failure,
        last_image=_newest([plan.last_image, before.last_image if before else None]),
        version=committed.version,
        model=plan.camera.model,
        seconds=round(work.seconds, 3),
        worst=committed.worst,
    )
    return _with_model(found, work, before)


def with_watched(night: CameraNight, watched: Watched) -> CameraNight:
    """With what watching found, which may make the state worse."""
    levels = {finding.level for finding in watched.findings}
    state: State = "error" if "error" in levels else "warning" if "warning" in levels else night.state
    state = "failed" if night.state == "failed" else state
    return replace(night, state=state, signals=dict(watched.signals), findings=watched.findings)


def _with_model(night: CameraNight, work: Work, before: CameraNight | None) -> CameraNight:
    """With the model and thresholds of its newest rows; where there are none, as they were before."""
    committed, request = work.committed, work.request
    if committed is None or not committed.origin:
        carried = {name: getattr(before, name) for name in _CARRIED} if before else {}
        return replace(night, **carried)
    night = replace(night, **committed.origin)
    if request is None or request.decisions.digest != night.decisions_digest:
        return night
    promise = request.decisions.promise
    promised = promise.promised if promise.policy == "max_false_alarm_rate" else None
    return replace(night, threshold=request.decisions.threshold, promised_rate=promised)


def _newest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time), default=None)
