"""What the rehearsal must have shown, claim by claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from devtools.rehearsal.nights import Night
from devtools.rehearsal.script import DETECTED_WITHIN, DRIFTING, NEW, REVOKED, Camera, Script
from raysvq.ledger.records import Finding

# Signals that say how images look; a camera may be named for the others where the script gives a cause.
OF_IMAGES = {"exposure", "contrast", "sharpness", "warmth", "size", "score", "codes", "alarm_rate"}


@dataclass
class Claim:
    """A sentence, and what speaks against it."""

    sentence: str
    found: str
    against: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For the table."""
        return f"{'yes' if not self.against else 'NO':<5}{self.sentence}: {self.found}"


def judge(script: Script, nights: Sequence[Night], told: str) -> list[Claim]:
    """All claims.

    Args:
        told: all messages that the alert route got.
    """
    cameras = script.all_cameras()
    run = [f"night {night.number}: {problem}" for night in nights for problem in night.problems]
    page = [f"night {night.number}: {problem}" for night in nights for problem in night.page]
    return [
        _accounted(nights),
        Claim("every run came to its end and named who failed", f"{len(run)} exceptions", run),
        _whole(script, nights, cameras),
        _drift(script, nights, cameras[DRIFTING]),
        _nobody_else(script, nights, cameras),
        _told(told, [cameras[DRIFTING], *([cameras[REVOKED]] if script.revoked else [])]),
        Claim("the page shows every camera and its state", f"{len(page)} exceptions", page),
    ]


def warnings(night: Night) -> list[Finding]:
    """Findings that are more than information."""
    return [each for camera in night.cameras for each in camera.findings if each.level != "info"]


def _accounted(nights: Sequence[Night]) -> Claim:
    differs: Counter[str] = Counter()
    for night in nights:
        differs.update(night.differs)
    images = sum(night.new for night in nights)
    against = [
        f"night {night.number}: {count} {what}" for night in nights for what, count in night.differs.items()
    ]
    said = ", ".join(f"{count} {what}" for what, count in differs.items()) or "none differs"
    sentence = "each image once per its last version, by the model in force; ledger and results agree"
    return Claim(sentence, f"{images} images, {said}", against)


def _whole(script: Script, nights: Sequence[Night], cameras: Sequence[Camera]) -> Claim:
    name = cameras[REVOKED].name
    named = [
        night.number
        for night in nights
        if any(camera.camera == name and camera.failure for camera in night.cameras)
    ]
    against = [] if named == list(script.revoked) else [f"expected in nights {list(script.revoked)}"]
    return Claim(f"the camera without rights ({name}) is named", f"in nights {named}", against)


def _drift(script: Script, nights: Sequence[Night], camera: Camera) -> Claim:
    signals = {"exposure"} if script.names_drift else OF_IMAGES
    found = [
        (night.number, finding)
        for night in nights
        for finding in warnings(night)
        if finding.camera == camera.name and finding.signal in signals
    ]
    sentence = (
        f"the drift of {camera.name} from night {script.drifts} on is raised within {DETECTED_WITHIN} nights"
    )
    if not found:
        return Claim(sentence, "never", ["not raised"])
    first, finding = found[0]
    in_time = script.drifts <= first < script.drifts + DETECTED_WITHIN
    return Claim(
        sentence, f'in night {first}: "{finding.sentence}"', [] if in_time else [f"in night {first}"]
    )


def _nobody_else(script: Script, nights: Sequence[Night], cameras: Sequence[Camera]) -> Claim:
    unfounded = [
        f"night {night.number}: {finding.camera}: {finding.signal}: {finding.sentence}"
        for night in nights
        for finding in warnings(night)
        if not _has_cause(script, night.number, finding, cameras)
    ]
    return Claim("no other camera is suspected", f"{len(unfounded)} findings without a cause", unfounded)


def _has_cause(script: Script, night: int, finding: Finding, cameras: Sequence[Camera]) -> bool:
    camera = next((each for each in cameras if each.name == finding.camera), None)
    if camera is None:
        return False
    if camera.number == DRIFTING:
        return 0 < script.drifts <= night
    if finding.signal in OF_IMAGES:
        return False
    causes = {"rejects": camera.habit == "broken", "volume": camera.number == NEW}
    revoked = camera.number == REVOKED and any(first <= night for first in script.revoked)
    return revoked or causes.get(finding.signal, False)


def _told(told: str, cameras: Sequence[Camera]) -> Claim:
    missing = [camera.name for camera in cameras if camera.name not in told]
    found = "all of them" if not missing else f"not {', '.join(missing)}"
    return Claim("people were told of " + " and ".join(camera.name for camera in cameras), found, missing)
