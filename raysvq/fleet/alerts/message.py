"""What a route is sent: many findings of a run as one text, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysvq.fleet.alerts.open_alerts import SEVERITY, Change, Due
from raysvq.ledger.records import Finding, FleetRun

FORMAT = 1  # of the JSON body
MAX_LINES = 20  # alerts in a message; the page has all
MAX_CHARACTERS = 300  # of a sentence

_ORDER: dict[Change, int] = {"worse": 0, "new": 0, "lasting": 1, "over": 2}
_MARKS: dict[Change, str] = {"worse": ", was a warning", "new": "", "lasting": ", lasts", "over": ""}
# Slack and its like read <…> as links and mentions.
_PLAIN = str.maketrans({"<": "‹", ">": "›"})


@dataclass(frozen=True)
class Message:
    """One message to one route."""

    title: str
    text: str  # plain, one line an alert
    body: dict[str, Any]  # see docs/alerts.md


def compose(run: FleetRun, due: Iterable[Due], page: str, route: str) -> Message:
    """The message about alerts that are due, worst first.

    Args:
        page: where the fleet's page is.
    """
    ranked = sorted(due, key=_rank)
    shown = ranked[:MAX_LINES]
    left_out = len(ranked) - len(shown)
    title = _title(run.fleet, ranked)
    lines = [title, *(_line(each) for each in shown)]
    lines += [f"and {left_out:,} more"] if left_out else []
    lines += [f"Run {run.number}, night of {run.night}: {page}"]
    text = "\n".join(lines)
    body = {
        "format": FORMAT,
        "id": f"{run.fleet}/{run.run_id}/{route}",
        "fleet": run.fleet,
        "run": run.number,
        "night": run.night,
        "title": title,
        "text": text,
        "page": page,
        "counts": dict(Counter(each.change for each in ranked)),
        "alerts": [{"change": each.change} | asdict(each.finding) for each in shown],
        "left_out": left_out,
    }
    return Message(title, text, body)


def one_line(text: str) -> str:
    """Without line ends and control characters, cut to MAX_CHARACTERS."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def plain(text: str) -> str:
    """One line that no chat takes for markup."""
    return one_line(text).translate(_PLAIN)


def cameras(count: int) -> str:
    """A number of cameras, in words."""
    return f"{count:,} camera" + ("" if count == 1 else "s")


def _rank(each: Due) -> tuple[int, int, str, str]:
    return _ORDER[each.change], -SEVERITY[each.finding.level], each.finding.camera, each.finding.signal


def _title(fleet: str, ranked: Sequence[Due]) -> str:
    there = [each.finding for each in ranked if each.change != "over"]
    if not there:
        return plain(f"{fleet}: over at {_places(each.finding for each in ranked)}")
    levels = Counter(finding.level for finding in there)
    counted = [
        f"{levels[level]:,} {level}{'' if levels[level] == 1 or level == 'info' else 's'}"
        for level in sorted(levels, key=SEVERITY.__getitem__, reverse=True)
    ]
    return plain(f"{fleet}: {', '.join(counted)} at {_places(there)}")


def _places(findings: Iterable[Finding]) -> str:
    names = {finding.camera for finding in findings}
    counted = cameras(len(names - {""}))
    return counted if "" not in names else "the run itself" if len(names) == 1 else f"{counted} and the run"


def _line(each: Due) -> str:
    finding = each.finding
    named = finding.camera in finding.sentence
    sentence = plain(finding.sentence if named else f"{finding.camera}: {finding.sentence}")
    head = "over" if each.change == "over" else f"{finding.level}{_MARKS[each.change]}"
    return f"{head}: {sentence}"
