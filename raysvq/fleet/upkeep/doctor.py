"""Whether a fleet can be inspected from here: rights, clock, models, routes, and what is on each machine.

Every check is a line that says what was found and, where it is no good, what to do. Files that are written to
try it are removed again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raysvq.errors import RaysvqError
from raysvq.fleet.settings.fleet import Fleet, absolute
from raysvq.fleet.upkeep.nodes import Node, Unreachable
from raysvq.storage import (
    configure,
    exists,
    file_infos,
    join,
    list_folder,
    list_objects,
    read_bytes,
    remove_file,
    remove_folder,
    require_put_if_absent,
    write_bytes,
)
from raysvq.storage.errors import TransientError

CLOCK_WARNING_S = 10.0  # between this machine's clock and another
CLOCK_PROBLEM_S = 1800.0  # less than a time zone that is taken for another
DISK_WARNING, DISK_PROBLEM = 10 * 2**30, 2**30  # free bytes of the folder for temporary files

_RIGHTS = {  # what is tried -> what to grant on S3; other stores have the like
    "list": "s3:ListBucket",
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "remove": "s3:DeleteObject",
}

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    level: Level
    subject: str
    found: str
    advice: str = ""  # what to do; empty where all is well

    def line(self) -> str:
        """For people."""
        return f"{self.level:<8} {self.subject}: {self.found}" + (f"; {self.advice}" if self.advice else "")


def doctor(
    fleet: Fleet,
    nodes: Sequence[Node | Unreachable],
    environment: Mapping[str, str] = os.environ,
    now: Callable[[], float] = time.time,
) -> Iterator[Check]:
    """Try what a run needs.

    Args:
        nodes: this machine first, then those of the cluster; see `raysvq.fleet.upkeep.nodes`.
        environment: where routes find their URLs.
        now: this machine's clock, seconds since 1970.
    """
    configure(fleet.settings.storage)
    yield from check_folder(fleet.out, now)
    for root in dict.fromkeys(entry.template.root for entry in fleet.entries):
        yield _check_images(root)
    yield from _check_models(fleet)
    yield from _check_routes(fleet, environment)
    yield from check_nodes(nodes)


def check_folder(folder: str, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """Try a folder that results are written to, and the clock of its store.

    Args:
        now: this machine's clock, seconds since 1970.
    """
    probe, content = join(folder, f".probe-{uuid.uuid4().hex}"), uuid.uuid4().bytes
    is_new_here = "://" not in folder and not os.path.exists(folder)
    started = now()
    tried = {"list": _failure("list", folder, lambda: next(list_folder(folder), None))}
    tried["write"] = _failure("write", folder, lambda: write_bytes(probe, content))
    ended = now()
    if tried["write"] is None:
        tried["read"] = _failure("read", folder, lambda: _require_content(probe, content))
        if tried["read"] is None:
            yield _clock_of_store(folder, probe, started, ended)
        tried["put-if-absent"] = _failure("create", folder, lambda: require_put_if_absent(folder))
        tried["remove"] = _failure("remove", folder, lambda: remove_file(probe))
    yield from filter(None, tried.values())
    if done := [right for right, failure in tried.items() if failure is None]:
        yield Check("ok", folder, f"can {', '.join(done)}")
    if is_new_here and os.path.exists(folder):
        remove_folder(folder)


def check_nodes(nodes: Sequence[Node | Unreachable]) -> Iterator[Check]:
    """Compare machines with the first one, from which the others were asked."""
    first = nodes[0]
    for node in nodes:
        subject = f"machine {node.name}"
        if isinstance(node, Unreachable):
            yield Check(
                "problem", subject, node.why, "raysvq must be installed there, and the machine answer"
            )
            continue
        gpus = f"{len(node.gpus)} GPUs ({', '.join(sorted(set(node.gpus)))})" if node.gpus else "no GPU"
        yield Check("ok", subject, f"{gpus}; {_text(node.versions[:3])}")
        if isinstance(first, Node):
            yield from _differences(subject, first, node)
        yield from _check_disk(subject, node)


def _differences(subject: str, first: Node, node: Node) -> Iterator[Check]:
    """Versions and clock that are not those of the first machine."""
    other = [pair for pair in node.versions if pair not in first.versions]
    if other:
        mine = [pair for pair in first.versions if pair[0] in dict(other)]
        found = f"has {_text(other)}, and machine {first.name} {_text(mine)}"
        yield Check("problem", subject, found, "install the same everywhere, such as from one image")
    off = _beyond(node.clock, *node.asked)
    if abs(off) > CLOCK_WARNING_S:
        yield _check_clock(f"clock of {subject}", off)


def _check_disk(subject: str, node: Node) -> Iterator[Check]:
    found = f"{node.free_bytes / 2**30:.1f} GiB free in {node.temp_folder}"
    if node.free_bytes < DISK_WARNING:
        level: Level = "problem" if node.free_bytes < DISK_PROBLEM else "warning"
        yield Check(level, subject, found, f"make room for {DISK_WARNING / 2**30:.0f} GiB, or set TMPDIR")
    else:
        yield Check("ok", subject, found)


def _check_images(root: str) -> Check:
    """Whether images can be listed and one of them read."""
    try:
        if not exists(root):
            return Check("problem", root, "no such folder or bucket", "mend the template in fleet.yaml")
        first = next(list_objects(root, problems=lambda uri, why: None), None)
    except (RaysvqError, OSError) as error:
        return _denied("list", root, error)
    if first is None:
        return Check("warning", root, "can list, but no file is there yet to read")
    try:
        read_bytes(first.uri)
    except (RaysvqError, OSError) as error:
        return _denied("read", first.uri, error)
    return Check("ok", root, "can list, read")


def _check_models(fleet: Fleet) -> Iterator[Check]:
    """Whether every model that the file names can be used, with the settings of runs."""
    from raysvq.scoring.request import Models  # PyTorch

    models = Models(fleet.settings)
    said = [source.values for source in fleet.entries] + [source.values for source in fleet.overrides]
    for model in dict.fromkeys(values["model"] for values in said if values.get("model")):
        try:
            found = models.request(absolute(model, fleet.file), fleet.out).bundle
        except (RaysvqError, OSError) as error:
            yield Check("problem", f"model {model}", str(error), "train or promote one, or mend fleet.yaml")
        else:
            tiles = found.settings.tiles
            kind = f"tiles of {tiles.size} pixels" if tiles.mode == "tiles" else "whole images"
            yield Check("ok", f"model {model}", f"version {found.model_version}, {kind}")


def _check_routes(fleet: Fleet, environment: Mapping[str, str]) -> Iterator[Check]:
    for name, route in fleet.routes.items():
        if environment.get(route.url_env):
            yield Check("ok", f"route {name}", f"{route.url_env} is set")
        else:
            found = f"{route.url_env} is not set in this environment"
            yield Check("warning", f"route {name}", found, "set it where `raysvq inspect` runs")


def _failure(right: str, folder: str, call: Callable[[], object]) -> Check | None:
    """Why something may not be done; None where it may."""
    try:
        call()
    except (RaysvqError, OSError) as error:
        return _denied(right, folder, error)
    return None


def _denied(right: str, where: str, error: Exception) -> Check:
    if _did_not_answer(error):
        return Check(
            "problem", where, str(error), "see that the store answers: network, endpoint, credentials"
        )
    grant = _RIGHTS.get(right)
    advice = f"grant {right}, on S3 {grant}" if grant else "name a store that has it in `out`"
    return Check("problem", where, str(error), advice)


def _did_not_answer(error: BaseException | None) -> bool:
    """Whether a store gave no answer; what says so may be wrapped."""
    return error is not None and (isinstance(error, TransientError) or _did_not_answer(error.__context__))


def _require_content(probe: str, content: bytes) -> None:
    if read_bytes(probe) != content:
        raise OSError("a file that was written is read as another one")


def _clock_of_store(folder: str, probe: str, started: float, ended: float) -> Check:
    """By the time that a store gave a file that was written between two moments of this machine's clock."""
    [info] = file_infos([probe])
    if info is None or info.mtime is None:
        return Check("warning", f"clock of {folder}", "the store says of no file when it was written")
    return _check_clock(f"clock of {folder}", _beyond(info.mtime.timestamp(), started, ended))


def _check_clock(subject: str, off: float) -> Check:
    if abs(off) <= CLOCK_WARNING_S:
        return Check("ok", subject, "as this machine's")
    level: Level = "problem" if abs(off) >= CLOCK_PROBLEM_S else "warning"
    found = f"{abs(off):,.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    return Check(level, subject, found, "set both by NTP: nights, freshness and quiet hours go by the clock")


def _beyond(moment: float, start: float, end: float) -> float:
    """Seconds from an interval to a moment after it; negative before it."""
    return max(moment - end, 0.0) + min(moment - start, 0.0)


def _text(versions: Sequence[tuple[str, str | None]]) -> str:
    return ", ".join(f"{name} {version or 'missing'}" for name, version in versions)
