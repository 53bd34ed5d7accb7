"""Findings in plain sentences."""

from __future__ import annotations

from datetime import date, timedelta

from raysvq.decisions.promise import percent
from raysvq.fleet.watch.compare import PAST, Comparison
from raysvq.ledger.records import CameraNight

_WHERE = {"reference": "in its reference", "past": "in its past weeks"}


def sentence(camera: str, found: Comparison, night: CameraNight) -> str:
    """What differs, by how much, from what, and since when."""
    return f"camera {camera} {_what(found, night)}{day(found.since)}"


def _what(found: Comparison, night: CameraNight) -> str:
    where, more = _WHERE[found.against], found.shift > 0
    match found.signal:
        case "exposure":
            return f"is {abs(found.shift):.1f} stops {'brighter' if more else 'darker'} than {where}"
        case "warmth":
            return f"is {abs(found.shift):.1f} stops {'redder' if more else 'bluer'} than {where}"
        case "sharpness":
            return f"is {'sharper' if more else 'less sharp'} than {where}: {_times(found)} the fine detail"
        case "contrast":
            return f"has {_times(found)} the contrast that it has {where}"
        case "score":
            return f"has image scores {_times(found)} those {where}"
        case "codes" if found.against == PAST:
            return f"shows something else than {where}: {found.value:.0%} of its code use has moved"
        case "codes":
            usual = f"{found.usual:.1%} {where}"
            return f"has {found.value:.0%} of its code use on codes that normal images hardly use, {usual}"
        case "alarm_rate":
            flagged = f"{percent(found.value)} of its images ({night.anomalous} of {night.scored})"
            return (
                f"flags {flagged}, {'expected' if found.against != PAST else 'before'} {percent(found.usual)}"
            )
        case "rejects":
            rejected = f"{percent(found.value)} of its images rejected"
            reason = max(night.rejects, key=lambda name: night.rejects[name], default="unknown")
            return f"has {rejected}, most of them as {reason}; {percent(found.usual)} {where}"
        case _:
            share = f"{found.value / found.usual:.0%}"
            return f"sent {found.value:.0f} images, {share} of what it usually sends {found.kind}"


def _times(found: Comparison) -> str:
    return f"{2**found.shift:.2g} times"


def day(since: date | None) -> str:
    """Since when, for the end of a sentence; nothing where it is since tonight."""
    return "" if since is None else f" since {since.day} {since:%b}"


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit."""
    hours = length.total_seconds() / 3600
    return (
        f"{hours / 24:.3g} days"
        if hours >= 48
        else f"{hours:.3g} h"
        if hours >= 1
        else f"{60 * hours:.0f} min"
    )
