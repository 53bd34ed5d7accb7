"""A made-up fleet with its nights: healthy cameras, drift, failures, rejects, a promotion, a night missed.

python -m tests.report.fleets FOLDER [--cameras 50]    writes its page, with heat maps
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np

from raysvq.ledger.records import CameraNight, Finding, FleetRun, State, Worst
from raysvq.report.fleet import write_page

LAST = date(2026, 11, 26)
MODELS = ("20261014T221503-3fa94c12", "20261116T201141-b07e55d9")
PROMOTED = 10  # nights before the last
DRIFTS = 6
MISSED = 17
_SITES = ("north", "south", "harbour")


def night(camera: str, when: date = LAST, **more: Any) -> CameraNight:
    """A healthy night with 200 images."""
    made = CameraNight(
        camera=camera,
        run_id=run_id(when),
        night=when.isoformat(),
        state="ok",
        fields={},
        listed=600,
        new=200,
        scored=200,
        anomalous=2,
        last_image=datetime(when.year, when.month, when.day, 1, 40, tzinfo=UTC),
        version=1,
        model="plates@champion",
        model_version=MODELS[0],
        policy="max_false_alarm_rate",
        threshold=3.2,
        promised_rate=0.01,
        signals={"exposure": -2.0, "score": 1.2},
    )
    return replace(made, **more)


def run_id(when: date) -> str:
    """Of the run of a date."""
    return f"{when:%Y%m%d}T010203-00000001"


def run_over(nights: Sequence[CameraNight], number: int = 1, when: date = LAST, **more: Any) -> FleetRun:
    """The record of a run with these nights."""
    started = datetime(when.year, when.month, when.day, 2, 0, tzinfo=UTC)
    scored = sum(each.scored for each in nights)
    made = FleetRun(
        number=number,
        run_id=run_id(when),
        fleet="north-plant",
        night=when.isoformat(),
        started_at=started.isoformat(),
        ended_at=(started + timedelta(seconds=60 + scored / 48)).isoformat(),
        code_version="0.1.0",
        fleet_digest="f" * 16,
        arguments={},
        cameras=len(nights),
        by_state=dict(Counter(each.state for each in nights)),
        listed=sum(each.listed for each in nights),
        scored=scored,
        anomalous=sum(each.anomalous for each in nights),
        rejected=sum(each.rejected for each in nights),
        skipped=0,
        failed=sum(each.state == "failed" for each in nights),
        images_per_s=48.3,
        worker_seconds=scored / 12,
        findings=dict(Counter(one.level for each in nights for one in each.findings)),
        exit_code=int(any(each.state in ("failed", "error") for each in nights)),
    )
    return replace(made, **more)


def fleet(cameras: int = 50, nights: int = 30) -> tuple[list[FleetRun], list[list[CameraNight]]]:
    """Runs, oldest first, and their nights."""
    draw = np.random.default_rng(7)
    levels = draw.normal(0, 1, (cameras, 4))
    runs, found = [], []
    for back in range(nights - 1, -1, -1):
        if back == MISSED:
            continue
        when = LAST - timedelta(back)
        each = [_camera_night(place, levels[place], back, when, draw) for place in range(cameras)]
        problems = (
            ("alerts: route ops did not answer within 10 s, 2 messages were not sent",) if not back else ()
        )
        each = [one for one in each if one is not None]
        runs.append(run_over(each, nights - back, when, problems=problems))
        found.append(each)
    return runs, found


def _camera_night(
    place: int, level: np.ndarray, back: int, when: date, draw: np.random.Generator
) -> CameraNight | None:
    site, line = _SITES[place % 3], f"line-{1 + place // 3 % 4}"
    camera = f"{site}.{line}.cam-{place:02}"
    promoted = back < PROMOTED
    scored = int(draw.poisson(190 + 30 * (place % 5)))
    drifts = place == 7 and back < DRIFTS
    blurs = place == 23 and back < 3
    exposure = -2.1 + 0.3 * level[0] + draw.normal(0, 0.03) - (0.14 * (DRIFTS - back) if drifts else 0)
    factor = (0.8 if promoted else 1.0) * (1 + 0.05 * level[1]) * (1.25 if drifts else 1.0)
    rate = (0.006 + 0.002 * abs(level[2])) * (4 if drifts else 2.6 if blurs else 1)
    signals = {
        "score": factor * (1.2 + draw.normal(0, 0.03)),
        "exposure": exposure,
        "contrast": -1.8 + 0.1 * level[3] + draw.normal(0, 0.02),
        "sharpness": -2.2 + 0.4 * level[1] + draw.normal(0, 0.08) - (1.9 if blurs else 0),
        "warmth": 0.1 * level[2] + draw.normal(0, 0.012),
        "codes": 0.01 + abs(draw.normal(0, 0.004)) + (0.11 if drifts else 0),
        "width": 1600,
        "height": 1200,
    }
    made = night(
        camera,
        when,
        fields={"site": site, "line": line, "camera": f"cam-{place:02}"},
        listed=3 * scored,
        new=scored,
        scored=scored,
        anomalous=int(draw.binomial(scored, rate)),
        last_image=datetime(when.year, when.month, when.day, 1, int(draw.integers(10, 58)), tzinfo=UTC),
        model_version=MODELS[promoted],
        threshold=2.6 if promoted else 3.2,
        signals=signals,
        worst=_worst(camera, 3.6 * factor, when) if scored else (),
    )
    return _troubled(made, place, back, when)


def _troubled(made: CameraNight, place: int, back: int, when: date) -> CameraNight | None:
    empty = {"new": 0, "scored": 0, "anomalous": 0, "signals": {}, "worst": (), "threshold": None}
    if place == 7 and back < DRIFTS - 1:
        since = LAST - timedelta(DRIFTS - 1)
        darker = f"is {0.14 * (DRIFTS - back):.1f} stops darker than in its reference since {since:%-d %b}"
        state: State = "error" if back < 3 else "warning"
        findings = [_finding(made, "exposure", state, darker, since, made.signals["exposure"], -2.1)]
        if back < 3:
            more = f"flags {100 * made.anomalous / made.scored:.1f} % of its images, promised was at most 1 %"
            findings.append(
                _finding(made, "alarm_rate", "warning", more, since, made.anomalous / made.scored, 0.01)
            )
        return replace(made, state=state, findings=tuple(findings))
    if place == 23 and back < 3:
        softer = "is less sharp than in its reference, as if out of focus"
        return replace(
            made,
            state="warning",
            findings=(_finding(made, "sharpness", "warning", softer, when, -4.1, -2.2),),
        )
    if place == 12 and back < 2:
        why = "AccessDenied: s3://raw/north/line-1/cam-12/ may not be listed with the credentials in use"
        last = datetime(2026, 11, 24, 1, 31, tzinfo=UTC)
        return replace(made, state="failed", failure=why, listed=0, last_image=last, **empty)
    if place == 30 and back < 2:
        late = "has sent no image for 2 days, expected at least one a day"
        last = datetime(2026, 11, 24, 0, 12, tzinfo=UTC)
        found = _finding(made, "freshness", "warning", late, when, None, None)
        return replace(made, state="warning", last_image=last, findings=(found,), **empty)
    if place == 41 and back == 0:
        rejected = made.scored // 12
        many = f"rejects {rejected} of {made.scored + rejected} images, most of them corrupt"
        found = _finding(made, "rejects", "warning", many, when, 0.08, 0.0)
        reasons = {"corrupt": rejected - 3, "changed": 3}
        return replace(made, state="warning", rejected=rejected, rejects=reasons, findings=(found,))
    if place == 48:
        return made if back < 4 else None  # a new camera
    if place % 11 == 5 and when.weekday() >= 5:
        return replace(made, state="quiet", **empty)
    if place % 17 == 2:
        return replace(made, rejected=1, rejects={"unreadable": 1})
    return made


def _finding(
    of: CameraNight,
    signal: str,
    level: Any,
    says: str,
    since: date,
    value: float | None,
    reference: float | None,
) -> Finding:
    return Finding(
        of.camera, signal, level, f"camera {of.camera} {says}", value, reference, 1e-5, since.isoformat()
    )


def _worst(camera: str, highest: float, when: date) -> tuple[Worst, ...]:
    folder = f"cameras/{camera}/heatmaps/{run_id(when)}"
    return tuple(
        Worst(
            image_id=f"{rank:032x}",
            uri=f"s3://raw/{camera.replace('.', '/')}/{when}/part-{4711 + 13 * rank}.png",
            image_score=highest * 0.93**rank,
            p_value=0.002 * (rank + 1),
            is_anomalous=rank < 3,
            heatmap=f"{folder}/{rank + 1:04}-{rank:032x}.jpg" if rank < 7 else None,
        )
        for rank in range(8)
    )


def draw_heat_maps(out: Path, nights: Sequence[Sequence[CameraNight]]) -> None:
    """Write the heat maps of each camera's last night that has some: brushed metal with a hot spot."""
    draw = np.random.default_rng(3)
    newest = {one.camera: one for each in nights for one in each if one.worst}
    for place, worst in enumerate(one for each in newest.values() for one in each.worst if one.heatmap):
        grain = cv2.blur(draw.normal(150, 34, (180, 240)).astype(np.float32), (31, 1))
        y, x = np.mgrid[:180, :240]
        at = draw.uniform((40, 40), (200, 140))
        angle, size = draw.uniform(0, 3.14), draw.uniform(9, 20)
        along = (x - at[0]) * np.cos(angle) + (y - at[1]) * np.sin(angle)
        across = (y - at[1]) * np.cos(angle) - (x - at[0]) * np.sin(angle)
        shape = np.exp(-((along / (2.4 * size)) ** 2) - (across / size) ** 2) * (1 - 0.09 * (place % 8))
        grey = np.clip(grain - 60 * (np.abs(across) < 1.5) * (np.abs(along) < 1.5 * size), 0, 255)
        hot = cv2.applyColorMap((255 * shape).astype(np.uint8), cv2.COLORMAP_TURBO)
        weight = np.clip(1.4 * shape - 0.15, 0, 0.75)[..., None]
        pixels = (1 - weight) * grey[..., None] + weight * hot
        path = out / str(worst.heatmap)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels.astype(np.uint8))


def main() -> None:
    """Write the page of such a fleet, with the heat maps of its newest night."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cameras", type=int, default=50)
    given = parser.parse_args()
    out = given.folder.resolve()
    runs, nights = fleet(given.cameras)
    draw_heat_maps(out, nights)
    print(write_page(str(out), runs, nights, timezone=ZoneInfo("Europe/Berlin")))


if __name__ == "__main__":
    main()
