"""Scoring into a folder again: images that changed, were mended, or could not be had before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysvq.errors import StorageError
from raysvq.evaluation.evaluate import evaluate
from raysvq.results import SCHEMAS, open_results, read_commits
from raysvq.scoring import run
from raysvq.settings import EvaluationSettings
from raysvq.storage import join, list_objects, read_bytes
from tests.plates import Plates, make_plates, plate

pytestmark = pytest.mark.usefixtures("s3", "small_cluster")


@pytest.fixture
def plates(tmp_path: Path) -> Plates:
    return make_plates(str(tmp_path), 10)


def _change(plates: Plates, *names: str) -> None:
    for number, name in enumerate(names):
        plates.put(name, plate(50 + number))
    plates.index()


def _require_intact(plates: Plates) -> None:
    """Every image is in the results once, and every file is what its commit record says."""
    assert plates.rows().keys() | plates.rows("rejects").keys() == plates.contents.keys()
    assert not plates.rows().keys() & plates.rows("rejects").keys()
    for commit in read_commits(plates.out):
        for file in (file for kind in SCHEMAS for file in commit.files[kind] + commit.kept[kind]):
            content = read_bytes(join(plates.out, file.name))
            assert hashlib.sha256(content).hexdigest() == file.sha256


def test_changed_images_and_only_they_are_scored_again(place: str) -> None:
    plates = make_plates(place, 10)
    first = plates.score()
    before = plates.rows()
    changed = {"plate-03.png", "plate-07.png"}
    _change(plates, *changed)
    second = plates.score()
    assert (second.images, second.rescored, second.done_before) == (2, 2, 8)
    after = plates.rows()
    _require_intact(plates)
    assert {name for name, row in after.items() if row != before[name]} == changed
    assert {row["run_id"] for name, row in after.items() if name in changed} == {second.run_id}
    assert {row["run_id"] for name, row in after.items() if name not in changed} == {first.run_id}
    assert {name: row["image_score"] for name, row in after.items()} == pytest.approx(
        plates.direct(), rel=1e-5
    )
    maps = open_results(plates.out, "maps").to_table()["image_id"].to_pylist()
    assert sorted(maps) == sorted(row["image_id"] for row in after.values())
    assert plates.score().images == 0


def test_an_evaluation_sees_each_image_once(plates: Plates) -> None:
    plates.score()
    _change(plates, "plate-00.png", "plate-05.png")
    plates.put("plate-01.png", b"broken since")
    plates.index()
    plates.score()
    settings = EvaluationSettings(bootstrap=0)
    counts = evaluate(plates.manifest, plates.out, settings, plates.bundle.settings.tiles).counts
    assert (counts.scored, counts.rejected) == (9, 1)


def test_an_image_that_is_mended_or_breaks_moves_between_scores_and_rejects(plates: Plates) -> None:
    plates.put("plate-02.png", b"no image yet")
    plates.index()
    plates.score()
    assert {name: row["reason"] for name, row in plates.rows("rejects").items()} == {
        "plate-02.png": "not_an_image"
    }
    plates.put("plate-02.png", plate(2))
    plates.put("plate-04.png", plate(4)[:-30])
    plates.index()
    assert plates.score().rescored == 2
    assert {name: row["reason"] for name, row in plates.rows("rejects").items()} == {
        "plate-04.png": "corrupt"
    }
    _require_intact(plates)


def test_what_the_store_did_not_hand_out_is_tried_again_when_asked(plates: Plates) -> None:
    plates.put("plate-06.png", b"no image")
    plates.index()
    put_back = _take_away(plates, "plate-01.png")
    plates.score()
    assert plates.rows("rejects")["plate-01.png"]["reason"] == "not_found"
    again = plates.score(retry_rejected=True)
    assert (again.images, again.rejects) == (1, {"not_found": 1})
    assert plates.rows("rejects")["plate-01.png"]["run_id"] == again.run_id
    put_back()
    assert plates.score().images == 0
    assert plates.score(retry_rejected=True).scored == 1
    assert plates.rows("rejects").keys() == {"plate-06.png"}
    _require_intact(plates)


def test_readers_see_the_old_rows_until_the_commit(plates: Plates, monkeypatch: pytest.MonkeyPatch) -> None:
    plates.score()
    before = {kind: plates.rows(kind) for kind in ("scores", "rejects")}
    _change(plates, "plate-03.png")
    plates.put("plate-05.png", b"broken since")
    plates.index()
    files = _files(plates)
    with monkeypatch.context() as patch:
        patch.setattr(run, "publish", _die)
        with pytest.raises(KeyboardInterrupt):
            plates.score()
    assert len([name for name in _files(plates) - files if "/out/scores/" in name]) >= 2
    assert {kind: plates.rows(kind) for kind in before} == before
    assert plates.score().images == 2
    assert plates.rows("rejects").keys() == {"plate-05.png"}
    _require_intact(plates)


def test_a_run_that_ended_right_after_its_commit_is_not_taken_up(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back = _take_away(plates, "plate-01.png")
    plates.score()
    with monkeypatch.context() as patch:
        patch.setattr(run, "remove_work", _die)
        with pytest.raises(KeyboardInterrupt):
            plates.score(retry_rejected=True)
    put_back()
    assert plates.score(retry_rejected=True).scored == 1
    _require_intact(plates)


def test_a_run_that_could_not_write_goes_on_when_it_can(plates: Plates) -> None:
    blocked = Path(plates.out, "scores")
    blocked.parent.mkdir()
    blocked.write_text("a file where a folder is to be")
    with pytest.raises(StorageError, match=r"cannot write .*/scores/part-"):
        plates.score(batch_images=5)
    blocked.unlink()
    plates.score(batch_images=5)
    assert plates.rows().keys() == plates.contents.keys()


def _take_away(plates: Plates, name: str) -> Callable[[], object]:
    """Move a file away; returns what puts it back as it was."""
    path = Path(plates.uri(name))
    away = path.rename(path.with_name("away"))
    return lambda: away.rename(path)


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def _files(plates: Plates) -> set[str]:
    return {info.uri for info in list_objects(plates.out)}
