"""Inspections of a fleet under attack: what is killed at a random moment loses and doubles nothing.

Run: python -m benchmarks.fleet_chaos [--runs 15] [--attacks driver worker store] [--json FILE]. On a Ray
cluster of two simulated nodes a fleet whose cameras upload late, twice, anew and broken files to an S3 server
is inspected night after night, and each time something is lost:

    driver   SIGKILL of the process that runs `raysvq inspect`; then the same command again
    worker   SIGKILL of a process at work
    store    the S3 server is stopped for --outage seconds

A run counts when the attack fell before its end. After each one the bookkeeper of devtools.rehearsal audits
all images of all nights, and the ledger. At the end the fleet is inspected once more into an empty folder,
with nothing in its way: images, scores, reasons and the ledger must be those that the attacked runs left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.chaos import RESTARTS, kill_worker
from devtools.ray_token import start_over_with_token
from devtools.rehearsal.bookkeeper import Bookkeeper, read_entries
from devtools.rehearsal.models import make_models
from devtools.rehearsal.nights import FINISHED, new_nights, upload
from devtools.rehearsal.script import Script
from devtools.rehearsal.site import OUT, WAIT_S, Site, site
from raysvq.results import open_results
from raysvq.storage import join

START_S = 2.0  # of a command, in which nothing of a run can be hit yet
QUIET = f"{OUT}-quiet"


@dataclass
class Tally:
    """What became of the runs under one attack."""

    attack: str
    runs: int = 0
    missed: int = 0  # attacks that came when the run was over
    restarts: int = 0  # times the command had to be given again
    lost: int = 0
    twice: int = 0
    ledger: int = 0  # images of which ledger and results say different things
    other: int = 0  # old version, wrong outcome, wrong model, scored again
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, differs: Counter[str]) -> None:
        """Count what an audit found."""
        self.lost += differs["lost"]
        self.twice += differs["twice"]
        self.ledger += differs["ledger"]
        self.other += differs.total() - differs["lost"] - differs["twice"] - differs["ledger"]

    @property
    def harmed(self) -> bool:
        """Whether anything is not as it must be."""
        return bool(self.lost or self.twice or self.ledger or self.other or self.failed)


@dataclass
class Fleet:
    """The fleet under attack, and how far it has come."""

    site: Site
    books: Bookkeeper
    outage_s: float
    night: int = 0
    newest: int = 0  # number of a run
    seconds: float = 20.0  # of the last run that nothing disturbed

    def begin(self) -> tuple[str, ...]:
        """Upload a night's images; the arguments of its run."""
        self.night += 1
        upload(self.site, self.books, self.night)
        return "--until", self.books.script.day(self.night).isoformat(), "--fail-on", "never"

    def failed_cameras(self) -> int:
        """In the newest run, unless it was asked for before."""
        self.newest, nights = new_nights(self.newest)
        return sum(each.failure is not None for each in {night.camera: night for night in nights}.values())


def kill_driver(fleet: Fleet, pid: int) -> bool:
    """Whether it was there to be hit."""
    os.kill(pid, signal.SIGKILL)
    return True


def kill_one_worker(fleet: Fleet, pid: int) -> bool:
    """Whether one was at work before the run's end."""
    return kill_worker(fleet.seconds / 2)


def stop_store(fleet: Fleet, pid: int) -> bool:
    """It comes back after a while, with what it had."""
    fleet.site.server.stop()
    time.sleep(fleet.outage_s)
    fleet.site.server.start()
    return True


ATTACKS: dict[str, Callable[[Fleet, int], bool]] = {
    "driver": kill_driver,
    "worker": kill_one_worker,
    "store": stop_store,
}


def run_attack(fleet: Fleet, tally: Tally) -> None:
    """Attack a night's run, and audit what it left."""
    started, arguments = time.monotonic(), fleet.begin()
    process, begun = fleet.site.inspect(*arguments), time.monotonic()
    until = begun + random.uniform(START_S, fleet.seconds)
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    hit = process.poll() is None and ATTACKS[tally.attack](fleet, process.pid)
    said, _ = process.communicate(timeout=WAIT_S)
    if not hit:
        fleet.seconds = time.monotonic() - begun
    _finish(fleet, arguments, process.returncode, said, tally)
    tally.add(fleet.books.audit(fleet.night))
    tally.runs += hit
    tally.missed += not hit
    tally.seconds += time.monotonic() - started
    code, harm = process.returncode, ", HARMED" if tally.harmed else ""
    print(f"night {fleet.night}: {tally.attack} {'hit' if hit else 'missed'}, {code}{harm}", flush=True)


def run_attacks(fleet: Fleet, attacks: list[str], runs: int, minutes: float) -> list[Tally]:
    """Attack in turn, until so many runs were hit before their end by each, or the time is over."""
    tallies, until = [Tally(attack) for attack in attacks], time.monotonic() + 60 * minutes
    while left := [tally for tally in tallies if tally.runs < runs and tally.missed < 5 * runs]:
        for tally in left:
            if time.monotonic() > until:
                return tallies
            run_attack(fleet, tally)
    return tallies


def _finish(fleet: Fleet, arguments: tuple[str, ...], code: int, said: str, tally: Tally) -> None:
    """Give the command again until it comes to its end and no camera has failed."""
    for _ in range(RESTARTS):
        if code in FINISHED and not fleet.failed_cameras():
            return
        tally.restarts += 1
        process = fleet.site.inspect(*arguments)
        said, _ = process.communicate(timeout=WAIT_S)
        code = process.returncode
    tally.failed.append(f"night {fleet.night}, exit code {code}: {said.strip()[-300:]}")


def measure_undisturbed(fleet: Fleet) -> None:
    """How long a run takes: that of the second night, when the cluster is warm."""
    for _ in range(2):
        arguments = fleet.begin()
        started = time.monotonic()
        fleet.site.run("inspect", "--fleet", str(fleet.site.fleet), *arguments)
        fleet.seconds = time.monotonic() - started
    differs = fleet.books.audit(fleet.night)
    if differs:
        raise RuntimeError(f"the undisturbed nights are not as they must be: {dict(differs)}")


def compare_with_quiet(fleet: Fleet) -> int:
    """Inspect all nights once more into an empty folder; how many images are scored or listed otherwise."""
    quiet = fleet.site.folder / "quiet.yaml"
    quiet.write_text(fleet.site.fleet.read_text().replace(f"out: {OUT}\n", f"out: {QUIET}\n"))
    script = fleet.books.script
    window = ("--since", script.first.isoformat(), "--until", script.day(fleet.night).isoformat())
    fleet.site.run("inspect", "--fleet", str(quiet), *window, "--fail-on", "never")
    differ = 0
    for camera in script.all_cameras():
        found, wanted = (_scores(join(out, "cameras", camera.name)) for out in (OUT, QUIET))
        differ += len(dict(found.items() ^ wanted.items()))
    names = ("etag", "outcome", "model_version")
    found, wanted = (
        {key: tuple(entry[name] for name in names) for key, entry in read_entries(out).items()}
        for out in (OUT, QUIET)
    )
    return differ + len(dict(found.items() ^ wanted.items()))


def _scores(out: str) -> dict[str, float | str]:
    scored = open_results(out, "scores").to_table(columns=["image_id", "image_score"]).to_pylist()
    rejected = open_results(out, "rejects").to_table(columns=["image_id", "reason"]).to_pylist()
    rows: dict[str, float | str] = {row["image_id"]: row["image_score"] for row in scored}
    return rows | {row["image_id"]: row["reason"] for row in rejected}


def table(tallies: list[Tally]) -> str:
    """A line per attack."""
    names = ("runs", "missed", "restarts", "lost", "twice", "ledger", "other")
    lines = ["attack  " + "".join(f"{name:>9}" for name in names) + "   failed  s a run"]
    for each in tallies:
        counts = "".join(f"{getattr(each, name):>9}" for name in names)
        pace = each.seconds / max(each.runs + each.missed, 1)
        lines.append(f"{each.attack:<8}{counts}{len(each.failed):>9}{pace:>9.1f}")
    return "\n".join(lines)


def main() -> None:
    """Attack, print the table, exit with 1 where anything was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="of each attack (default 15)")
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long (default 60)")
    parser.add_argument("--cameras", type=int, default=10, help="of the fleet (default 10)")
    parser.add_argument(
        "--outage", type=float, default=5.0, help="seconds that the store is away (default 5)"
    )
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    start_over_with_token("benchmarks.fleet_chaos")
    torch.set_num_threads(1)
    script = Script(
        cameras=arguments.cameras,
        nights=1000,
        killed=0,
        revoked=(),
        joins=1,
        missed=0,
        drifts=0,
        twice=0,
        promoted=0,
    )
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), nodes=2) as place:
        books = Bookkeeper(script)
        make_models(place, books)
        fleet = Fleet(place, books, arguments.outage)
        measure_undisturbed(fleet)
        print(f"undisturbed: {fleet.seconds:.1f} s", flush=True)
        tallies = run_attacks(fleet, arguments.attacks, arguments.runs, arguments.minutes)
        otherwise = compare_with_quiet(fleet)
    print(table(tallies))
    print(f"{otherwise} images otherwise than in an undisturbed run over all {fleet.night} nights")
    if arguments.json:
        figures = {"undisturbed_s": fleet.seconds, "nights": fleet.night, "otherwise": otherwise}
        figures |= {"attacks": [asdict(each) for each in tallies]}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(int(otherwise > 0 or any(each.harmed for each in tallies)))


if __name__ == "__main__":
    main()
