"""The end of a run in Markdown, for a mail or a ticket."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from raysvq.fleet.alerts.message import cameras, one_line
from raysvq.fleet.alerts.open_alerts import SEVERITY
from raysvq.ledger.records import CameraNight, FleetRun

MAX_ROWS = 50  # of a table or list; the page and the ledger have all

_ORDER = {"failed": 0, "error": 1, "warning": 2}  # states of cameras that need a look
# What Markdown takes for markup within a line; the last two are of addresses that it would make links.
_MARKUP = re.compile(r"[\\`*_\[\]~|#]|:(?=//)|(?<=www)\.")


def digest(run: FleetRun, nights: Mapping[str, CameraNight]) -> str:
    """The verdict in one line, the cameras that need a look, what changed, failures, and numbers.

    Names and sentences are escaped: a file name that is HTML or Markdown is shown as it is spelt.
    """
    looked_at = sorted(nights.values(), key=lambda night: (_ORDER.get(night.state, 3), night.camera))
    parts = [
        [f"# {escape(run.fleet)}, night of {run.night}", "", _verdict(run)],
        _section("Cameras that need a look", _needing_a_look(looked_at)),
        _section("What changed", _changed(looked_at)),
        _section("Failures", _failures(run, looked_at)),
        _section("Numbers", _numbers(run, looked_at)),
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def escape(text: str) -> str:
    """One line that Markdown and HTML show as it is spelt, cut to the length of a sentence."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(one_line(text), quote=False))


def _verdict(run: FleetRun) -> str:
    levels = [level for level in ("error", "warning") if run.findings.get(level)]
    found = [f"{run.findings[level]:,} {level}{'' if run.findings[level] == 1 else 's'}" for level in levels]
    if run.failed:
        found.insert(0, f"{cameras(run.failed)} failed")
    if run.problems:
        found.append(
            f"{len(run.problems):,} problem{'' if len(run.problems) == 1 else 's'} of the run itself"
        )
    scored = f"{run.scored:,} images scored, {run.anomalous:,} anomalous"
    return f"**{', '.join(found) if found else 'All well'}** at {cameras(run.cameras)}; {scored}."


def _section(title: str, lines: Iterable[str]) -> list[str]:
    given = list(lines)
    return ["", f"## {title}", "", *given] if given else []


def _needing_a_look(nights: Sequence[CameraNight]) -> Iterator[str]:
    rows = [
        f"| {escape(night.camera)} | {night.state} | {why} | {since} |"
        for night in nights
        if night.state in _ORDER
        for why, since in _reasons(night)
    ]
    yield from _table(("camera", "state", "why", "since"), rows)


def _reasons(night: CameraNight) -> Iterator[tuple[str, str]]:
    if night.failure:
        yield escape(night.failure), night.night
    for finding in sorted(night.findings, key=lambda each: -SEVERITY[each.level]):
        if finding.level != "info" and finding.sentence != night.failure:
            yield escape(finding.sentence), finding.since or night.night


def _changed(nights: Sequence[CameraNight]) -> Iterator[str]:
    rows = [
        f"| {escape(night.camera)} | {night.new:,} | {night.replaced:,} | {night.deleted:,} |"
        for night in nights
        if night.replaced or night.deleted
    ]
    yield from _table(("camera", "new images", "replaced", "deleted"), rows)
    notes = [
        f"- {escape(finding.sentence)}"
        for night in nights
        for finding in night.findings
        if finding.level == "info"
    ]
    if rows and notes:
        yield ""
    yield from _first(notes)


def _failures(run: FleetRun, nights: Sequence[CameraNight]) -> Iterator[str]:
    for problem in run.problems:
        yield f"- {escape(problem)}"
    failed = [night for night in nights if night.state == "failed"]
    if failed:
        yield (
            f"- {cameras(len(failed))} failed, for the reasons above. Their images are not lost: the next run"
            f" scores them. To do it at once, mend the cause and add `--repair {run.number}` to the command."
        )
    outside = sum(night.skipped for night in nights)
    if outside:
        yield f"- {outside:,} images were found and not scored; the next run takes them."


def _numbers(run: FleetRun, nights: Sequence[CameraNight]) -> Iterator[str]:
    reasons: Counter[str] = Counter()
    for night in nights:
        reasons.update(night.rejects)
    why = ", ".join(f"{escape(reason)} {images:,}" for reason, images in reasons.most_common())
    rows = [
        ("cameras", ", ".join(f"{escape(state)} {count:,}" for state, count in sorted(run.by_state.items()))),
        ("images listed", f"{run.listed:,}"),
        ("scored", f"{run.scored:,}, {run.anomalous:,} of them anomalous"),
        ("rejected", f"{run.rejected:,}" + (f": {why}" if why else "")),
        ("images per second", f"{run.images_per_s:,.1f}"),
        ("seconds of workers", f"{run.worker_seconds:,.0f}"),
        ("started, ended", f"{escape(run.started_at)}, {escape(run.ended_at)}"),
        ("run", f"{run.number}, {escape(run.run_id)}, raysvq {escape(run.code_version)}"),
    ]
    yield from _table(("", ""), [f"| {name} | {value} |" for name, value in rows])


def _table(columns: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(columns)} |"
        yield "|---" * len(columns) + "|"
    yield from _first(rows)


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MAX_ROWS]
    if len(lines) > MAX_ROWS:
        yield from ("", f"and {len(lines) - MAX_ROWS:,} more: see the fleet's page.")
