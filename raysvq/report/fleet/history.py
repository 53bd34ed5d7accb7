"""What the recent runs of a fleet say of each camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

from raysvq.ledger.records import CameraNight, Finding, FleetRun, Level, State

# What needs a look comes first.
SEVERITY: tuple[State, ...] = ("failed", "error", "warning", "ok", "quiet")
UNWELL: tuple[State, ...] = ("failed", "error", "warning")
LEVELS: tuple[Level, ...] = ("error", "warning", "info")
_NOT_OF_IMAGES = ("freshness", "volume", "run")  # signals that every night tells anew


@dataclass(frozen=True)
class CameraHistory:
    """A camera's nights, oldest first, and the runs they are of."""

    camera: str
    nights: tuple[CameraNight, ...]  # at least one
    runs: tuple[FleetRun, ...]  # of each of the nights

    @cached_property
    def latest(self) -> CameraNight:
        """Its newest night. What stood out in its images stands until new ones say otherwise."""
        newest = self.nights[-1]
        seen = next((night for night in reversed(self.nights) if saw_images(night)), newest)
        if seen is newest:
            return newest
        standing = tuple(one for one in seen.findings if is_of_images(one.signal))
        states = (newest.state, *(one.level for one in standing if one.level != "info"))
        worst = min(states, key=SEVERITY.index)
        return replace(newest, state=worst, findings=(*newest.findings, *standing))

    @cached_property
    def dates(self) -> tuple[CameraNight, ...]:
        """One night per date: the counts of all runs of a date, and the rest of the last that scored."""
        of_date: dict[str, list[CameraNight]] = {}
        for night in self.nights:
            of_date.setdefault(night.night, []).append(night)
        return tuple(_merged(nights) for _, nights in sorted(of_date.items()))

    @property
    def turned(self) -> bool:
        """Whether its newest state is another than the one before."""
        return len({night.state for night in self.nights[-2:]}) > 1

    @property
    def severity(self) -> int:
        """The rank of its newest state, 0 is the worst."""
        return SEVERITY.index(self.latest.state)


def histories(runs: Sequence[FleetRun], nights: Sequence[Sequence[CameraNight]]) -> dict[str, CameraHistory]:
    """The cameras of the fleet by name, those that need a look first.

    A camera belongs to the fleet if the newest run over all cameras has it, or a later one.

    Args:
        runs: oldest first.
        nights: of the same runs.
    """
    whole = [place for place, run in enumerate(runs) if not is_partial(run)]
    present = {night.camera for each in nights[whole[-1] if whole else 0 :] for night in each}
    found: dict[str, list[tuple[CameraNight, FleetRun]]] = {camera: [] for camera in present}
    for run, each in zip(runs, nights, strict=True):
        for night in each:
            if night.camera in found:
                found[night.camera].append((night, run))
    made = [
        CameraHistory(camera, tuple(night for night, _ in pairs), tuple(run for _, run in pairs))
        for camera, pairs in found.items()
    ]
    return {one.camera: one for one in sorted(made, key=lambda one: (one.severity, one.camera))}


def saw_images(night: CameraNight) -> bool:
    """Whether the night says anything of images."""
    return night.scored + night.rejected > 0


def is_of_images(signal: str) -> bool:
    """Whether a finding's signal is one that nights without images cannot tell."""
    return signal not in _NOT_OF_IMAGES


def is_partial(run: FleetRun) -> bool:
    """Whether a run was told to leave cameras out."""
    return any(run.arguments.get(name) for name in ("only", "repair"))


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Findings, the gravest first, and of the same level the surest."""
    return sorted(
        findings,
        key=lambda one: (LEVELS.index(one.level), 1.0 if one.p_value is None else one.p_value),
    )


def stands_out(night: CameraNight) -> str:
    """What a person should know of a night, beside the camera's name; empty if nothing."""
    if night.failure:
        return night.failure
    findings = ordered(night.findings)
    return findings[0].sentence.removeprefix(f"camera {night.camera} ") if findings else ""


def alarm_rate(night: CameraNight) -> float | None:
    """Share of the scored images that were flagged; None where none was scored."""
    return night.anomalous / night.scored if night.scored else None


def promotions(nights: Sequence[CameraNight]) -> list[tuple[date, str]]:
    """The dates of the first night of a new model version, and its name. The first model is none."""
    found, before = [], None
    for night in nights:
        if night.model_version and night.scored:
            if before and night.model_version != before:
                found.append((date.fromisoformat(night.night), night.model_version))
            before = night.model_version
    return found


def _merged(nights: Sequence[CameraNight]) -> CameraNight:
    if len(nights) == 1:
        return nights[0]
    last = next((night for night in reversed(nights) if night.scored), nights[-1])
    rejects: Counter[str] = Counter()
    for night in nights:
        rejects.update(night.rejects)
    return replace(
        last,
        state=nights[-1].state,
        failure=nights[-1].failure,
        new=sum(night.new for night in nights),
        replaced=sum(night.replaced for night in nights),
        deleted=sum(night.deleted for night in nights),
        scored=sum(night.scored for night in nights),
        anomalous=sum(night.anomalous for night in nights),
        rejected=sum(night.rejected for night in nights),
        rejects=dict(rejects),
    )
