"""What the page of a camera says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysvq.imaging.rejection import REASONS
from raysvq.ledger.records import CameraNight, Finding, FleetRun, Worst
from raysvq.report.fleet.addresses import picture_link, record_link
from raysvq.report.fleet.history import CameraHistory, is_of_images, ordered, promotions, saw_images
from raysvq.report.fleet.times import day
from raysvq.report.fleet.trends import Figure, trends


@dataclass(frozen=True)
class Picture:
    """One of the highest-scored images, with the link to its heat map."""

    image: Worst
    name: str  # of the file
    link: str | None


@dataclass(frozen=True)
class Change:
    """Something that stands out now or stood out, with the nights that said so."""

    finding: Finding
    first: str  # ISO date
    last: str
    now: bool


@dataclass(frozen=True)
class CameraView:
    """All that the template of a camera's page needs."""

    camera: str
    latest: CameraNight
    headline: str
    changes: list[Change]
    figures: list[Figure]
    worst_of: CameraNight | None  # the newest night with images
    pictures: list[Picture]
    rejects_of: CameraNight | None  # the newest night with rejects
    rejects: list[tuple[str, int, str]]  # reason, images, what it means
    models: list[tuple[str, str]]  # ISO date or empty, version: newest first
    runs: list[tuple[CameraNight, FleetRun, str]]  # newest first, with the link to the run's record


def view_camera(history: CameraHistory) -> CameraView:
    """Gather it."""
    nights = history.nights
    worst_of = next((night for night in reversed(nights) if night.worst), None)
    rejects_of = next((night for night in reversed(history.dates) if night.rejects), None)
    rejects = sorted(rejects_of.rejects.items(), key=lambda pair: -pair[1]) if rejects_of else []
    return CameraView(
        camera=history.camera,
        latest=history.latest,
        headline=_headline(history.latest),
        changes=changes(nights),
        figures=trends(history.dates),
        worst_of=worst_of,
        pictures=[_picture(image) for image in worst_of.worst] if worst_of else [],
        rejects_of=rejects_of,
        rejects=[(reason, images, REASONS.get(reason, "")) for reason, images in rejects],
        models=_models(nights),
        runs=[
            (night, run, record_link(run.number, "json", "../../"))
            for night, run in zip(reversed(nights), reversed(history.runs), strict=True)
        ],
    )


def changes(nights: Sequence[CameraNight]) -> list[Change]:
    """Findings of all nights, one for each stretch of nights that say the same of a signal; newest first.

    What stood out in images stands until new ones say otherwise.
    """
    found: list[Change] = []
    open_now: dict[str, tuple[Finding, str, str]] = {}
    for night in nights:
        said = {one.signal: one for one in reversed(ordered(night.findings))}
        for signal in [*open_now]:
            if signal not in said and (saw_images(night) or not is_of_images(signal)):
                found.append(Change(*open_now.pop(signal), now=False))
        for signal, one in said.items():
            first = open_now[signal][1] if signal in open_now else one.since or night.night
            open_now[signal] = (one, first, night.night)
    past = sorted(found, key=lambda change: change.last, reverse=True)
    now = [
        Change(*open_now[one.signal], now=True) for one in ordered([each[0] for each in open_now.values()])
    ]
    return now + past


def _headline(night: CameraNight) -> str:
    if night.failure:
        return f"Its images were not, or not all, scored: {night.failure}"
    findings = ordered(night.findings)
    if findings:
        return findings[0].sentence
    if night.state == "quiet":
        return "Nothing new was found."
    return f"Nothing stands out: {night.anomalous:,} of {night.scored:,} images are flagged."


def _picture(image: Worst) -> Picture:
    link = None if image.heatmap is None else picture_link(image.heatmap)
    return Picture(image, image.uri.rpartition("/")[2] or image.uri, link)


def _models(nights: Sequence[CameraNight]) -> list[tuple[str, str]]:
    first = next((night.model_version for night in nights if night.model_version and night.scored), None)
    changed = [(f"since {day(when)}", version) for when, version in promotions(nights)]
    return list(reversed([("before", first), *changed] if first else changed))
