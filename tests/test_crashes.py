"""Scoring killed between any two writes of its end, and the crash table of the docs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import DataError
from raysvq.results import commit_log, read_results, writer
from raysvq.scoring import run, work
from tests.plates import make_plates, plate

pytestmark = pytest.mark.usefixtures("s3", "small_cluster")
ROOT = Path(__file__).parent.parent


class _Killed(BaseException):
    pass


def _dying_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kill the driver before its next write, or removal, once there were so many; returns what they were."""
    done: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            if len(done) == writes:
                raise _Killed
            done.append(name)
            return call(*arguments)

        return write

    for module, name in ((writer, "put_file"), (commit_log, "create_file"), (work, "remove_folder")):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return done


def test_killed_between_any_two_writes_of_its_end_a_run_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plates = make_plates(str(tmp_path), 6)
    plates.score(maps="all")
    for number, name in enumerate(("plate-01.png", "plate-04.png", "new.png")):
        plates.put(name, plate(50 + number))
    plates.index()
    before = plates.rows()
    start = shutil.copytree(plates.out, tmp_path / "start")
    for writes in range(20):
        shutil.rmtree(plates.out)
        shutil.copytree(start, plates.out)
        with monkeypatch.context() as patch:
            done = _dying_after(writes, patch)
            try:
                plates.score(maps="all")
                break
            except _Killed:
                committed = "create_file" in done
                assert plates.rows().keys() == (plates.contents if committed else before).keys()
                assert committed or plates.rows() == before
        again = plates.score(maps="all")
        assert (again.images, again.taken_over) == ((0, 0) if committed else (3, 3))
        assert {name: row["image_score"] for name, row in plates.rows().items()} == pytest.approx(
            plates.direct(), rel=1e-5
        )
        assert plates.rows().keys() == plates.contents.keys()
        assert not work.work_folders(plates.out)
        assert plates.score(maps="all").images == 0
    assert done == [*["put_file"] * (len(done) - 2), "create_file", "remove_folder"]
    assert len(done) >= 5  # rewritten scores and maps, ids, the record, the work folder


def test_a_driver_that_wakes_after_another_run_committed_leaves_its_work_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease was taken over while it was halted right before the commit; its own check came too early."""
    plates = make_plates(str(tmp_path), 6)
    publish, others = run.publish, tmp_path / "others"

    def halted(out: str, commit: Any) -> str:
        monkeypatch.setattr(run, "publish", publish)
        shutil.move(f"{out}/_leases", others)  # as if the holder had died
        plates.put("new.png", plate(50))
        plates.index()
        plates.score()
        return publish(out, commit)

    monkeypatch.setattr(run, "publish", halted)
    with pytest.raises(DataError, match="another run has committed since this one read version 0"):
        plates.score()
    assert plates.rows().keys() == plates.contents.keys()
    assert len(read_results(plates.out).commits) == 1
    assert plates.score().images == 0


def test_every_row_of_the_crash_table_names_a_test_that_exists() -> None:
    _, found, below = (ROOT / "docs/results.md").read_text().partition("## Killed at any instant\n")
    assert found
    rows = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"\[`(\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", row)
        assert named, row
        for test, path in named:
            assert f"def {test}(" in (ROOT / path).read_text(), (test, path)
