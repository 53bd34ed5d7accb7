"""The rehearsed nights, one after the other: uploads, what befalls the run, the run, the audit."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from devtools.rehearsal.bookkeeper import Bookkeeper
from devtools.rehearsal.pages import page_problems
from devtools.rehearsal.pictures import content
from devtools.rehearsal.script import NEW, PRODUCTS, REVOKED, Script
from devtools.rehearsal.site import MODELS, OUT, WAIT_S, Site
from raysvq.ledger.records import CameraNight, nights_from_table
from raysvq.storage import exists, filesystem, join, list_objects, read_bytes

FINISHED = (0, 1)  # exit codes of a run that came to its end: all well; cameras failed, or alarms


@dataclass
class Night:
    """What a night brought, and what of it is not as it must be."""

    number: int
    date: str
    events: list[str]
    new: int = 0  # images that the bookkeeper expects to be scored or rejected
    cameras: list[CameraNight] = field(
        default_factory=list
    )  # as the ledger has them, of all runs of the night
    codes: list[int] = field(default_factory=list)  # exit codes; negative: killed by that signal
    seconds: float = 0.0  # of the runs
    differs: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    page: list[str] = field(default_factory=list)  # what is not right about the fleet's page

    def total(self, count: str) -> int:
        """Over all cameras."""
        return sum(getattr(camera, count) for camera in self.cameras)

    def line(self) -> str:
        """All of it in one line."""
        counts = (
            f"{self.new:>6}{self.total('scored'):>8}{self.total('rejected'):>10}{self.differs.total():>9}"
        )
        codes = " ".join(map(str, self.codes)) or "-"
        events = ", ".join(self.events)
        return f"{self.number:>5}  {self.date}{counts}{self.seconds:>8.1f}  {codes:<8}{events}".rstrip()


HEAD = (
    f"{'night':>5}  {'date':<10}{'new':>6}{'scored':>8}{'rejected':>10}{'differs':>9}{'seconds':>8}  exit    "
)


def run_nights(site: Site, books: Bookkeeper, spare_model: tuple[str, str]) -> Iterator[Night]:
    """Run all nights of the script.

    Args:
        spare_model: folder and version of the model that is promoted on the way.
    """
    script, number = books.script, 0
    for night in range(1, script.nights + 1):
        found = Night(night, script.day(night).isoformat(), script.events(night))
        _prepare(site, books, night, spare_model)
        if night != script.missed:
            found.new = books.new_in(night)
            started = time.monotonic()
            _run(site, script, found)
            found.seconds = time.monotonic() - started
            found.differs = books.audit(night)
            before = number
            number, found.cameras = new_nights(number)
            found.problems += _trouble(before, number)
            _judge(script, found)
            found.page = page_problems(found.cameras)
        yield found


def _prepare(site: Site, books: Bookkeeper, night: int, spare_model: tuple[str, str]) -> None:
    """What happens between two runs."""
    script = books.script
    upload(site, books, night)
    if night in script.revoked and night - 1 not in script.revoked:
        site.revoke(script.all_cameras()[REVOKED])
    if night - 1 in script.revoked and night not in script.revoked:
        site.restore()
    if night == script.promoted:
        site.run("promote", spare_model[0], f"{MODELS}/{PRODUCTS[0]}@champion")
        books.promote(PRODUCTS[0], spare_model[1], night)


def upload(site: Site, books: Bookkeeper, night: int) -> None:
    """All files that come before a night's run."""
    files = {}
    for camera in books.script.all_cameras():
        for shot in books.script.uploads(camera, night):
            key = shot.key(books.script.first)
            files[key] = content(shot)
            books.upload(shot, files[key], night)
    site.upload(files)


def _run(site: Site, script: Script, found: Night) -> None:
    """The night's run, or runs."""
    arguments = ("--until", found.date)
    processes = [site.inspect(*arguments)]
    if found.number == script.killed:
        _kill(site, processes[0], found)
        processes.append(site.inspect(*arguments))
    if found.number == script.twice:
        processes.append(site.inspect(*arguments))
    for process in processes:
        said, _ = process.communicate(timeout=WAIT_S)
        found.codes.append(process.returncode)
        (site.folder / f"night-{found.number}-{len(found.codes)}.log").write_text(said)
        if process.returncode not in FINISHED and found.number not in (script.killed, script.twice):
            found.problems.append(f"exit code {process.returncode}: {said.strip().splitlines()[-1:]}")
    if not any(code in FINISHED for code in found.codes):
        found.problems.append(f"no run came to its end: {found.codes}")


def _kill(site: Site, process: subprocess.Popen[str], found: Night) -> None:
    """SIGKILL of a node and of the driver, once a camera has been committed; then another node joins."""
    before, until = _commits(), time.monotonic() + WAIT_S
    while _commits() == before and process.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    site.lose_node()
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        found.problems.append("the run had ended before it was killed")
    site.replace_node()


def _commits() -> int:
    """Records of all cameras."""
    files = list_objects(join(OUT, "cameras"), must_exist=False)
    return sum("/_commits/" in info.uri for info in files)


def new_nights(last: int) -> tuple[int, list[CameraNight]]:
    """What the ledger says of the runs after one: the newest number, and each camera's nights."""
    nights: list[CameraNight] = []
    newest = last
    for info in list_objects(join(OUT, "ledger", "nights"), must_exist=False):
        name = info.uri.rpartition("/")[2].removesuffix(".parquet")
        if name.isdigit() and int(name) > last:
            newest = max(newest, int(name))
            fs, path = filesystem(info.uri)
            nights += nights_from_table(pq.read_table(path, filesystem=fs))
    return newest, nights


def _trouble(before: int, newest: int) -> Iterator[str]:
    """What the runs after one say of themselves: routes, the page, watching; the newest must have its record.

    One that is killed before its record leaves its number unused.
    """
    for number in range(before + 1, newest + 1):
        record, digest = (join(OUT, "ledger", "runs", f"{number:020d}.{kind}") for kind in ("json", "md"))
        if exists(record):
            yield from json.loads(read_bytes(record))["problems"]
        elif number == newest:
            yield f"{record} does not exist"
        if number == newest and not exists(digest):
            yield f"{digest} does not exist"


def _judge(script: Script, found: Night) -> None:
    """Who must be named, and that nobody else is."""
    cameras = script.all_cameras()
    expected = {each.name for each in cameras if each.number != NEW or found.number >= script.joins}
    failed = {each.camera for each in found.cameras if each.failure}
    must_fail = {cameras[REVOKED].name} if found.number in script.revoked else set()
    if missing := expected - {each.camera for each in found.cameras}:
        found.problems.append(f"not in the ledger's night: {sorted(missing)}")
    if failed != must_fail:
        found.problems.append(f"failed are {sorted(failed)}, expected {sorted(must_fail)}")
    if skipped := found.total("skipped"):
        found.problems.append(f"{skipped} images skipped")
    counted = found.total("scored") + found.total("rejected")
    if counted != found.new:
        found.problems.append(f"the ledger counts {counted} images scored or rejected, expected {found.new}")
