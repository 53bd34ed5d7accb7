"""What a run over the fleet found and did, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from raysvq.fleet.listing.listing import named
from raysvq.ledger.records import CameraNight, Finding, FleetRun

MAX_LINES = 20  # of cameras that failed, and of findings; the ledger has all

_SEVERITY = {"error": 0, "warning": 1, "info": 2}


def summary_lines(run: FleetRun, nights: Mapping[str, CameraNight]) -> Iterator[str]:
    """For people; worst first."""
    yield (
        f"fleet {run.fleet}, night of {run.night}, run {run.number}: {run.cameras - run.failed} of"
        f" {run.cameras} cameras inspected" + (f", {run.failed} failed" if run.failed else "")
    )
    new, replaced, deleted = (
        sum(getattr(night, name) for night in nights.values()) for name in ("new", "replaced", "deleted")
    )
    yield f"{run.listed:,} images listed: {new:,} new, {replaced:,} replaced, {deleted:,} deleted"
    yield _work_line(run, nights)
    failures = [
        f"  failed: {named(night.camera, night.failure)}" for night in nights.values() if night.failure
    ]
    yield from _first(failures, "cameras that failed")
    findings = sorted((finding for night in nights.values() for finding in night.findings), key=_by_severity)
    yield from _first([f"  {each.level}: {each.sentence}" for each in findings], "findings")
    yield from (f"  problem: {problem}" for problem in run.problems)


def _work_line(run: FleetRun, nights: Mapping[str, CameraNight]) -> str:
    if not run.scored and not run.rejected and not run.skipped:
        return "nothing to score"
    reasons: Counter[str] = Counter()
    for night in nights.values():
        reasons.update(night.rejects)
    why = ", ".join(f"{reason} {images:,}" for reason, images in reasons.most_common())
    line = f"{run.scored:,} images scored, {run.anomalous:,} anomalous, {run.rejected:,} rejected"
    line += f" ({why})" if why else ""
    line += f", {run.skipped:,} left for the next run" if run.skipped else ""
    return line + (f"; {run.images_per_s:,.1f} images/s" if run.images_per_s else "")


def _first(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield f"  and {len(lines) - MAX_LINES:,} more {what}; `raysvq inspect --status` has them"


def _by_severity(finding: Finding) -> tuple[int, str]:
    return _SEVERITY[finding.level], finding.camera
