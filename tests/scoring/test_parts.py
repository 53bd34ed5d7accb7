"""One job over several score directories: each by itself, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.manifest import open_manifest
from raysvq.errors import DataError, RaysvqError, StorageError
from raysvq.imaging.region import Region
from raysvq.model.bundle import save_bundle
from raysvq.results import read_snapshot
from raysvq.scoring import parts, run
from raysvq.scoring.parts import Part, PartOutcome, score_parts
from raysvq.scoring.pending import find_pending
from raysvq.scoring.request import Models
from raysvq.scoring.work import WORK, begun_uri, work_folders
from raysvq.settings import DecisionSettings
from raysvq.storage import join, write_bytes
from tests.plates import Plates, make_plates, plate

pytestmark = pytest.mark.usefixtures("small_cluster")
LEFT = Region(polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))


def _nobody_else() -> None:
    """No other process has taken over."""


class Cameras:
    """Three of them, the last with a model of its own."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.plates = {
            name: make_plates(str(folder / name), count, mode)
            for name, count, mode in (("small", 3, "tiles"), ("large", 9, "tiles"), ("whole", 4, "whole"))
        }
        self.plates["large"].bundle = self.plates["small"].bundle
        save_bundle(self.plates["large"].bundle, self.plates["large"].model)

    def part(self, name: str, **changes: Any) -> Part:
        """What is left to score of a camera; keywords are those of `Models.request` and of Part."""
        plates = self.plates[name]
        asked = {key: changes.pop(key) for key in ("region", "decision") if key in changes}
        request = Models(plates.settings()).request(plates.model, plates.out, **asked)
        folder = self.spool / f"{name}-{len(list(self.spool.glob('*')))}"
        folder.mkdir(parents=True)
        scoring = plates.settings().scoring
        pending = find_pending(open_manifest(plates.manifest), plates.out, request.digests(), scoring, folder)
        return Part(name, request, replace(pending, replaces=()), **changes)

    def score(self, *some: Part, held: Callable[[], None] = _nobody_else) -> dict[str, PartOutcome]:
        settings = self.plates["small"].settings()
        outcomes = list(score_parts(some, settings, held))
        found = {outcome.name: outcome for outcome in outcomes}
        assert len(found) == len(outcomes) == len(some)
        return found

    def require_right(self, name: str) -> None:
        """All images of a camera are scored, once, as the library scores them."""
        plates = self.plates[name]
        found = {file: row["image_score"] for file, row in plates.rows().items()}
        assert found == pytest.approx(plates.direct(), rel=1e-5)
        assert not work_folders(plates.out)


@pytest.fixture
def cameras(tmp_path: Path) -> Cameras:
    return Cameras(tmp_path)


def test_a_part_that_fails_ends_alone_and_goes_on_later(cameras: Cameras) -> None:
    large = cameras.plates["large"]
    gone = [Path(large.uri(f"plate-{n:02d}.png")) for n in (7, 8)]
    contents = [path.read_bytes() for path in gone]
    some = [cameras.part(name) for name in ("large", "small", "whole")]
    for path in gone:
        path.unlink()
    outcomes = cameras.score(*some)
    failure = outcomes["large"].failure
    assert isinstance(failure, RaysvqError)
    assert "2 of the run's 9 images are rejected for reasons outside them (not_found 2)" in str(failure)
    assert (outcomes["large"].summary, outcomes["large"].version) == (None, 0)
    assert not read_snapshot(large.out).commits
    for name, images in (("small", 3), ("whole", 4)):
        summary = outcomes[name].summary
        assert summary is not None
        assert (summary.images, summary.scored, outcomes[name].version) == (images, images, 1)
        cameras.require_right(name)
    for path, content in zip(gone, contents, strict=True):
        large.put(path.name, content)
    large.index()
    (again,) = cameras.score(cameras.part("large")).values()
    assert again.summary is not None
    assert again.summary.taken_over >= 4
    assert again.version == 1
    cameras.require_right("large")


def test_parts_that_cannot_be_prepared_or_ended_leave_the_others_be(
    cameras: Cameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [cameras.part(name) for name in ("small", "large", "whole")]
    Path(cameras.plates["small"].out).write_text("a file where a folder is to be")
    publish = run.publish

    def refused(out: str, commit: Any) -> str:
        if out == cameras.plates["whole"].out:
            raise RuntimeError("a mistake\nof many lines")
        return publish(out, commit)

    monkeypatch.setattr(run, "publish", refused)
    outcomes = cameras.score(*some)
    assert isinstance(outcomes["small"].failure, StorageError)
    assert str(outcomes["whole"].failure) == "RuntimeError: a mistake"
    assert outcomes["large"].failure is None
    cameras.require_right("large")
    monkeypatch.undo()
    again = cameras.score(cameras.part("whole"))["whole"]
    assert again.summary is not None
    assert again.summary.taken_over == 4
    cameras.require_right("whole")


def test_images_that_changed_are_scored_again_in_place_of_their_rows(cameras: Cameras) -> None:
    cameras.score(cameras.part("small"), cameras.part("whole"))
    small = cameras.plates["small"]
    small.put("plate-01.png", plate(77))
    small.put("new.png", plate(78))
    small.index()
    part = cameras.part("small")
    assert (part.pending.images, part.pending.rescored, part.pending.version) == (2, 1, 1)
    outcome = cameras.score(part)["small"]
    assert outcome.version == read_snapshot(small.out).version == 2
    cameras.require_right("small")


def test_whoever_commits_meanwhile_wins(cameras: Cameras) -> None:
    part = cameras.part("small")
    cameras.plates["small"].score()
    outcomes = cameras.score(part, cameras.part("whole"))
    assert "another run has committed since" in str(outcomes["small"].failure)
    assert outcomes["whole"].failure is None
    cameras.require_right("whole")


def test_a_job_that_was_taken_over_ends_as_a_whole(cameras: Cameras, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "HELD_S", 0.0)

    def taken_over() -> None:
        raise DataError("the fleet was taken over")

    some = [cameras.part(name) for name in ("small", "whole")]
    with pytest.raises(DataError, match="the fleet was taken over"):
        cameras.score(*some, held=taken_over)
    assert not any(read_snapshot(cameras.plates[name].out).commits for name in ("small", "whole"))


def test_a_part_that_takes_too_long_is_named(cameras: Cameras) -> None:
    outcomes = cameras.score(cameras.part("large", max_seconds=1e-6), cameras.part("small"))
    assert "more than `max_seconds`, which is 1e-06" in str(outcomes["large"].failure)
    assert outcomes["small"].failure is None
    cameras.require_right("small")


def test_a_part_whose_workers_die_again_and_again_is_given_up(cameras: Cameras) -> None:
    some = [cameras.part("small"), cameras.part("whole")]
    write_bytes(begun_uri(join(cameras.plates["small"].out, WORK, "night-1"), 0), b"5")
    settings = cameras.plates["small"].settings()
    outcomes = {each.name: each for each in score_parts(some, settings, _nobody_else, "night-1")}
    assert "and the 2 images after it died 5 times" in str(outcomes["small"].failure)
    assert outcomes["whole"].failure is None
    cameras.require_right("whole")
    cameras.score(cameras.part("small"))
    cameras.require_right("small")


def test_parts_have_regions_and_decisions_of_their_own(cameras: Cameras) -> None:
    by_hand = DecisionSettings(policy="manual", threshold=1e6)
    plain = cameras.part("small")
    cameras.score(plain, cameras.part("large", region=LEFT, decision=by_hand))
    small, large = cameras.plates["small"].rows(), cameras.plates["large"].rows()
    assert {row["threshold"] for row in large.values()} == {1e6}
    assert not any(row["is_anomalous"] for row in large.values())
    assert {row["threshold"] for row in small.values()} == {plain.request.decisions.threshold}
    common = small.keys() & large.keys()
    assert all(large[name]["map_mean"] != small[name]["map_mean"] for name in common)
    assert all(large[name]["model_digest"] == small[name]["model_digest"] for name in common)
    assert all(large[name]["settings_digest"] != small[name]["settings_digest"] for name in common)
    (commit,) = read_snapshot(cameras.plates["large"].out).commits
    assert commit.settings["region_of_interest"]["digest"] == LEFT.read().digest
    assert commit.settings["decision"]["threshold"] == 1e6


def test_overlays_of_the_highest_scores_are_those_of_each_part(cameras: Cameras) -> None:
    settings = cameras.plates["small"].settings(worst=2)
    some = [cameras.part("small"), cameras.part("whole")]
    some = [replace(part, request=replace(part.request, settings=settings)) for part in some]
    for outcome in score_parts(some, settings, _nobody_else, run_id="night-1"):
        out = cameras.plates[outcome.name].out
        assert outcome.summary is not None
        rows = cameras.plates[outcome.name].rows().values()
        worst = sorted(rows, key=lambda row: -row["image_score"])[:2]
        names = [f"heatmaps/night-1/{n:04d}-{row['image_id']}.jpg" for n, row in enumerate(worst, start=1)]
        assert outcome.summary.heatmaps == [join(out, name) for name in names]
        assert all(Path(out, name).read_bytes()[:2] == b"\xff\xd8" for name in names)
        assert {row["run_id"] for row in rows} == {"night-1"}


def test_no_part_is_no_work() -> None:
    def asked() -> None:
        raise AssertionError

    assert list(score_parts([], Plates.settings(None), asked)) == []  # type: ignore[arg-type]
