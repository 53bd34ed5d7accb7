"""How quiet watching is on a healthy fleet, and what it notices: simulated cameras and nights.

Run: python benchmarks/watch.py [--json FILE] [--cameras 200] [--nights 14] [--seeds 5]

A camera has offsets from its model's reference, every night has effects of its own, and images spread within
a night with heavy tails. Cameras send 20 to 300 images a night, some of them fewer at weekends; 1 % of the
images have defects. Nothing in raysvq is fitted to these numbers. Healthy fleets are watched first, then
fleets in which half the cameras change, in one way each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysvq.fleet.settings.cameras import Camera, WatchSettings
from raysvq.fleet.watch import Evidence, watch_fleet
from raysvq.ledger.records import CameraNight, Finding
from raysvq.schema import REFERENCE

FIRST = date(2026, 3, 2)  # a Monday
CODES, DRAWN = 512, 16
PROMISED = 0.01

# Deviations between cameras, between nights of a camera, and between images of a night.
SPREADS = {
    "score": (0.08, 0.04, 0.3),  # log2
    "exposure": (0.15, 0.05, 0.10),  # stops
    "contrast": (0.10, 0.05, 0.15),
    "sharpness": (0.15, 0.08, 0.20),
    "warmth": (0.10, 0.03, 0.05),
}
USUAL = {"score": 1.0, "exposure": -2.0, "contrast": -1.5, "sharpness": -3.0, "warmth": 0.2}
VOLUME_SPREAD = 0.15  # between nights, on a natural log scale
DEFECTS, DEFECT_SCORE = 0.01, 1.8  # share of images, and what a defect adds to log2 of the score
REJECTED = 0.005


@dataclass(frozen=True)
class Change:
    """What happens to some cameras, from night START on."""

    name: str
    signal: str  # by which it should be found
    shift: float = 0.0  # of the signal
    a_night: float = 0.0  # more each night
    stated: float = 0.0  # size from which on it should be found, for a drift
    product: float = 0.0  # share of the images that show a new product
    alarms: float = 1.0  # times as many images over the threshold
    volume: float = 1.0  # times as many images


START = 14  # nights without a change before; counted from 0
SIZES = (("20 to 50 images", 0, 50), ("50 to 120", 50, 120), ("120 to 300", 120, 1000))
WITHIN = (2, 4)  # nights
CHANGES = (
    Change("exposure drifts by 0.1 stops a night, to 0.5", "exposure", a_night=-0.1, stated=-0.5),
    Change("0.5 stops darker at once", "exposure", -0.5),
    Change("dirt on the lens: half the fine detail", "sharpness", -1.0),
    Change("0.4 stops warmer light", "warmth", 0.4),
    Change("scores 1.3 times as high", "score", 0.38),
    Change("a new product on half the images", "codes", product=0.5),
    Change("four times the alarms", "alarm_rate", alarms=4.0),
    Change("half the images", "volume", volume=0.5),
)


class Fleet:
    """Cameras that are drawn once, and give the images of one night after the other."""

    def __init__(self, cameras: int, seed: int, changed: dict[int, Change] | None = None) -> None:
        """`changed` has what happens to which camera, by number."""
        self.rng = rng = np.random.default_rng(seed)
        self.changed = changed or {}
        self.names = [f"line-{n // 10}.cam-{n:03}" for n in range(cameras)]
        self.offsets = {
            name: between * rng.standard_normal(cameras) for name, (between, _, _) in SPREADS.items()
        }
        self.volumes = np.exp(rng.uniform(np.log(20), np.log(300), cameras))
        self.weekends = np.where(rng.random(cameras) < 0.5, 0.4, 1.0)
        usual = 1 / np.arange(1, CODES + 1) ** 1.1
        usual[CODES * 3 // 5 :] = 1e-5  # codes that normal images hardly use
        self.use = _normal(np.log(usual) + 0.3 * rng.standard_normal((cameras, CODES)))
        self.new = usual[::-1] / usual.sum()
        self.alarms, self.scored = np.zeros(cameras), np.zeros(cameras)  # before any change
        members = rng.integers(0, cameras, 512)
        self.reference = self._table(members, self._images(members, dict.fromkeys(SPREADS, 0.0), 0.0))
        scores = self.reference["image_score"].to_numpy()
        self.threshold = float(np.quantile(scores, 1 - PROMISED))

    def night(self, number: int) -> dict[str, Evidence]:
        """The evidence of a night."""
        rng, cameras, today = self.rng, len(self.names), FIRST + timedelta(days=number)
        expected = self.volumes * (self.weekends if today.weekday() > 4 else 1.0)
        on = {n: change for n, change in self.changed.items() if number >= START}
        for n, change in on.items():
            expected[n] *= change.volume
        volumes = np.maximum(rng.poisson(expected * np.exp(VOLUME_SPREAD * rng.standard_normal(cameras))), 1)
        rejected = rng.binomial(volumes, REJECTED)
        scored = volumes - rejected
        members = np.repeat(np.arange(cameras), scored)
        effects = {
            name: spread[1] * rng.standard_normal(cameras)[members] for name, spread in SPREADS.items()
        }
        for n, change in on.items():
            effects.setdefault(change.signal, np.zeros(len(members)))
            steps = number - START + 1
            shift = change.shift or max(change.stated, change.a_night * steps)
            effects[change.signal][members == n] += shift
        images = self._images(members, effects, 0.1)
        for n, change in on.items():
            own = np.flatnonzero(members == n)
            more = (change.alarms - 1) * self.alarms[n] / self.scored[n]
            images["score"][own[rng.random(len(own)) < more]] = np.log2(self.threshold) + 0.5
            new = own[rng.random(len(own)) < change.product]
            images["codes"][new] = rng.choice(CODES, (len(new), DRAWN), p=self.new)
        table = self._table(members, images)
        alarms = np.bincount(members, table["image_score"].to_numpy() >= self.threshold, cameras).astype(int)
        if number < START:
            self.alarms += alarms
            self.scored += scored
        starts = np.concatenate([[0], np.cumsum(scored)])
        return {
            name: Evidence(
                Camera(name, (), "model"),
                CameraNight(
                    camera=name,
                    run_id=f"run-{number}",
                    night=today.isoformat(),
                    state="ok",
                    new=int(volumes[n]),
                    scored=int(scored[n]),
                    rejected=int(rejected[n]),
                    anomalous=int(alarms[n]),
                    model_digest="m",
                    settings_digest="s",
                    threshold=self.threshold,
                ),
                table.slice(starts[n], scored[n]),
                self.reference,
                PROMISED,
            )
            for n, name in enumerate(self.names)
        }

    def _images(self, members: np.ndarray, effects: dict[str, Any], night: float) -> dict[str, np.ndarray]:
        rng, images = self.rng, {}
        for name, (_, _, within) in SPREADS.items():
            spread = within * rng.standard_t(5, len(members))
            images[name] = USUAL[name] + self.offsets[name][members] + effects[name] + spread
        images["score"] += DEFECT_SCORE * (rng.random(len(members)) < (DEFECTS if night else 0.0))
        use = _normal(np.log(self.use) + night * rng.standard_normal(self.use.shape))
        codes = np.empty((len(members), DRAWN), np.uint16)
        uniform = rng.random((len(members), DRAWN))
        for camera in np.unique(members):
            own = members == camera
            codes[own] = np.searchsorted(np.cumsum(use[camera])[:-1], uniform[own])
        repeated = rng.random((len(members), DRAWN)) < 0.5  # neighbours in an image are alike
        images["codes"] = np.where(repeated, codes[:, :1], codes)
        return images

    def _table(self, members: np.ndarray, images: dict[str, np.ndarray]) -> pa.Table:
        columns = {name: values for name, values in images.items() if name not in ("score", "codes")}
        sizes = {"width": np.full(len(members), 1280), "height": np.full(len(members), 1024)}
        codes = pa.ListArray.from_arrays(
            np.arange(0, len(members) * DRAWN + 1, DRAWN), images["codes"].ravel()
        )
        named = columns | sizes | {"image_score": 2 ** images["score"], "codes": codes}
        return pa.table({name: pa.array(named[name]) for name in REFERENCE.names}).cast(REFERENCE)


def _normal(logs: np.ndarray) -> np.ndarray:
    """Shares whose logarithms are these, but for a constant."""
    shares = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def watch(
    fleet: Fleet, nights: int, settings: WatchSettings | None = None
) -> Iterator[dict[str, tuple[Finding, ...]]]:
    """The findings of each night, the ledger growing as a fleet's does."""
    history: list[list[CameraNight]] = []
    for number in range(nights):
        tonight = fleet.night(number)
        found = watch_fleet(
            tonight, history[-30:], settings or WatchSettings(), FIRST + timedelta(days=number)
        )
        history.append(
            [
                replace(tonight[name].night, signals=each.signals, findings=each.findings)
                for name, each in found.items()
            ]
        )
        yield {name: each.findings for name, each in found.items()}


def healthy(cameras: int, nights: int, seed: int) -> list[Finding]:
    """Warnings and errors of a fleet in which nothing happens."""
    found = watch(Fleet(cameras, seed), nights)
    return [one for night in found for some in night.values() for one in some if one.level != "info"]


def power(cameras: int, nights: int, seed: int) -> tuple[list[Outcome], int]:
    """What is found of cameras that change, half of all; and the warnings about those that do not."""
    each = max(1, cameras // 2 // len(CHANGES))
    changed = {n: CHANGES[n // each] for n in range(each * len(CHANGES))}
    fleet = Fleet(cameras, seed, changed)
    first: dict[int, int] = {}
    false = 0
    for number, night in enumerate(watch(fleet, nights)):
        for n, name in enumerate(fleet.names):
            warned = [one for one in night[name] if one.level != "info"]
            if n not in changed or number < START:
                false += len(warned)
            elif any(one.signal == changed[n].signal for one in warned):
                first.setdefault(n, number)
    found = [Outcome(change, fleet.volumes[n], first.get(n)) for n, change in changed.items()]
    return found, false


@dataclass(frozen=True)
class Outcome:
    """A camera that changed."""

    change: Change
    images: float  # a night, on working days
    found: int | None  # night; None: never

    def within(self, nights: int) -> bool:
        """Whether it was found within so many nights, the first with the stated size included."""
        reached = START + (round(self.change.stated / self.change.a_night) - 1 if self.change.a_night else 0)
        return self.found is not None and self.found < reached + nights


def table(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """How many were found in time, by change and number of images."""
    rows = []
    for change in CHANGES:
        row: dict[str, Any] = {"change": change.name, "signal": change.signal}
        for name, low, high in SIZES:
            own = [one for one in outcomes if one.change == change and low <= one.images < high]
            row[name] = {"cameras": len(own)} | {
                f"within_{nights}": sum(one.within(nights) for one in own) for nights in WITHIN
            }
        rows.append(row)
    return rows


def main() -> None:
    """Simulate, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cameras", type=int, default=200)
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    started, quiet = time.monotonic(), []
    print(f"{arguments.cameras} healthy cameras, {arguments.nights} nights")
    for seed in range(arguments.seeds):
        warnings = [one.sentence for one in healthy(arguments.cameras, arguments.nights, seed)]
        rate = 1000 * len(warnings) / (arguments.cameras * arguments.nights)
        quiet.append({"seed": seed, "warnings": len(warnings), "per_1000_camera_nights": round(rate, 2)})
        print(
            f"  seed {seed}: {len(warnings)} warnings, {rate:.2f} per 1,000 camera-nights",
            *warnings,
            sep="\n    ",
        )
    outcomes, false = [], 0
    for seed in range(arguments.seeds):
        found, wrong = power(arguments.cameras, START + 5, 100 + seed)
        outcomes += found
        false += wrong
    rows = table(outcomes)
    print(
        f"found within {WITHIN[0]}, within {WITHIN[1]} nights, of cameras that change after {START} nights;"
    )
    print(f"{false} warnings about cameras that had not changed")
    print(f"{'change':<46}" + "".join(f"{name:>18}" for name, _, _ in SIZES))
    for row in rows:
        found = [[row[name][f"within_{nights}"] for nights in WITHIN] for name, _, _ in SIZES]
        shares = [
            f"{few}, {more} of {row[name]['cameras']}"
            for (few, more), (name, _, _) in zip(found, SIZES, strict=True)
        ]
        print(f"{row['change']:<46}" + "".join(f"{share:>18}" for share in shares))
    seconds = round(time.monotonic() - started)
    print(f"{seconds} s")
    if arguments.json:
        figures = {"healthy": quiet, "changes": rows, "other_warnings": false, "seconds": seconds}
        given = {name: value for name, value in vars(arguments).items() if name != "json"}
        arguments.json.write_text(json.dumps(given | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
