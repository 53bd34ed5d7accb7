"""What a scoring job leaves beside its rows, and what it says before it starts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import cv2
import duckdb
import numpy as np
import pytest

from raysvq.cli import main
from raysvq.errors import ScoringError
from raysvq.results import SCHEMAS, committed_files, read_commits, read_scores, read_snapshot
from raysvq.scoring import run
from raysvq.scoring.forecast import forecast
from raysvq.storage import list_objects, remove_file
from tests.plates import DAYS, SITES, Plates, make_plates, plate

pytestmark = pytest.mark.usefixtures("small_cluster")


@pytest.fixture
def plates(tmp_path: Path) -> Plates:
    return make_plates(str(tmp_path), 12)


def _place(name: str) -> tuple[str, str | None]:
    """Site and date, in UTC, of an image by its number."""
    number = int(name.removeprefix("plate-").removesuffix(".png"))
    when = DAYS[number % 3]
    return SITES[number % 2], datetime.fromisoformat(when).astimezone(
        UTC
    ).date().isoformat() if when else None


def test_partitions_are_read_by_arrow_and_duckdb_alike(plates: Plates) -> None:
    wanted = sorted((name, *_place(name)) for name in plates.contents)
    plates.score(partition_by=("site", "date"))
    for _ in range(2):
        found = read_scores(plates.out, ["uri", "site", "date"]).to_pylist()
        assert sorted((Path(row["uri"]).name, row["site"], row["date"]) for row in found) == wanted
        query = "select parse_filename(uri), site, date from read_parquet($files, hive_partitioning = true,"
        query += " hive_types = {'site': varchar, 'date': varchar})"
        by_duckdb = duckdb.execute(query, {"files": committed_files(plates.out, "scores")}).fetchall()
        assert sorted(by_duckdb) == wanted
        plates.put("plate-03.png", plate(50))
        plates.put("plate-04.png", plate(51))
        plates.index()
        plates.score(partition_by=("site", "date"))


def test_each_file_of_a_partition_holds_its_rows_alone(plates: Plates) -> None:
    plates.score(partition_by=("label",))
    (commit,) = read_commits(plates.out)
    folders = {file.name.split("/")[1]: file.rows for file in commit.files["scores"]}
    assert commit.partition_by == ("label",)
    assert set(folders) == {"label=normal", "label=anomalous"}
    labels = read_scores(plates.out, ["uri", "label"]).to_pylist()
    assert {Path(row["uri"]).name: row["label"] for row in labels} == {
        name: ("normal", "anomalous")[n % 2] for n, name in enumerate(sorted(plates.contents))
    }


@pytest.mark.parametrize("partition_by", [(), ("site",)], ids=["flat", "by site"])
def test_the_commit_record_describes_every_file_that_is_there(
    plates: Plates, partition_by: tuple[str, ...]
) -> None:
    plates.put("plate-01.png", b"no image")
    plates.index()
    plates.score(partition_by=partition_by)
    (commit,) = read_commits(plates.out)
    listed = {file.name: file.sha256 for kind in SCHEMAS for file in commit.files[kind] + commit.kept[kind]}
    found = {
        str(path.relative_to(plates.out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(plates.out).rglob("*.parquet")
    }
    listed |= {file.name: file.sha256 for file in commit.ids}
    assert listed == found
    assert sum(file.rows for file in commit.ids) == 12
    assert (commit.runs[0].images, commit.runs[0].scored, commit.runs[0].rejected) == (12, 11, 1)


def test_engines_go_on_with_one_folder_and_are_named_in_rows_and_record(plates: Plates) -> None:
    plates.score(engine="torch")
    assert {row["engine"] for row in plates.rows().values()} == {"torch"}
    plates.put("plate-03.png", plate(50))
    plates.index()
    plates.score(engine="openvino")
    rows = plates.rows()
    assert {name for name, row in rows.items() if row["engine"] == "openvino"} == {"plate-03.png"}
    assert [commit.runs[-1].engine for commit in read_commits(plates.out)] == ["torch", "openvino"]
    assert {name: row["image_score"] for name, row in rows.items()} == pytest.approx(
        plates.direct(), rel=1e-5
    )


def test_anomalous_images_and_only_they_have_a_heat_map(plates: Plates) -> None:
    plates.score(heatmaps="anomalous")
    rows = plates.rows()
    anomalous = {name for name, row in rows.items() if row["is_anomalous"]}
    assert len(anomalous) == 6
    assert {name for name, row in rows.items() if row["heatmap_uri"]} == anomalous
    uris = {rows[name]["heatmap_uri"] for name in anomalous}
    assert uris == {info.uri for info in list_objects(f"{plates.out}/heatmaps")}
    for name in anomalous:
        content = Path(rows[name]["heatmap_uri"]).read_bytes()
        assert content.startswith(b"\xff\xd8")
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (rows[name]["height"], rows[name]["width"])


def test_a_plan_says_what_a_run_would_do_and_does_nothing(
    plates: Plates, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["score", plates.manifest, "--model", plates.model, "--out", plates.out, "--plan"])
    assert ended.value.code == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["images"] == "12 to score (0 again), 0 are done"
    size = sum(map(len, plates.contents.values()))
    assert lines["bytes"].startswith(f"{size / 1000:,.1f} kB")
    assert lines["files"] == "1 of scores, 16 images each"
    assert lines["measured"] == "on 12 of the images, 0 of them rejected, by one worker"
    assert not Path(plates.out).exists()


def test_a_plan_counts_tiles_and_work_units_as_the_run_makes_them(plates: Plates) -> None:
    plan = forecast(plates.manifest, plates.model, plates.out, plates.settings(batch_images=5))
    plates.score(batch_images=5)
    tiles = sum(len(row["tiles"]) for row in plates.rows().values())
    assert plan.sampled.tiles * plan.images == pytest.approx(tiles)
    assert plan.units == len(committed_files(plates.out, "scores")) == 3
    assert (plan.workers, plan.machines) == (2, "2 CPU(s)")


def test_a_plan_counts_what_is_done_and_what_is_to_be_done_again(plates: Plates) -> None:
    plates.score()
    plates.put("plate-03.png", plate(50))
    plates.put("plate-12.png", plate(12))
    plates.put("plate-13.png", b"no image")
    plates.index()
    before = {info.uri for info in list_objects(plates.out)}
    plan = forecast(plates.manifest, plates.model, plates.out, plates.settings())
    assert (plan.images, plan.rescored, plan.done_before) == (3, 1, 11)
    assert (plan.sampled.images, plan.sampled.rejected) == (3, 1)
    assert {info.uri for info in list_objects(plates.out)} == before
    plates.score()
    (line,) = forecast(plates.manifest, plates.model, plates.out, plates.settings()).lines()
    assert line.split(maxsplit=1)[1] == "0 to score (0 again), 14 are done"


def test_a_run_that_finds_nothing_says_why_for_each_image(plates: Plates) -> None:
    for name in plates.contents:
        remove_file(plates.uri(name))
    assert plates.score(max_rejected=1).rejects == {"not_found": 12}
    assert all(plates.uri(name) in row["detail"] for name, row in plates.rows("rejects").items())


def test_a_run_that_the_store_refuses_stops_and_goes_on_when_it_is_back(plates: Plates) -> None:
    gone = [f"plate-{number:02d}.png" for number in (5, 6, 7)]
    for name in gone:
        remove_file(plates.uri(name))
    with pytest.raises(ScoringError, match=r"3 of the run's 12 .*not_found 3.*: 0.1 allows 2"):
        plates.score(max_rejected=0.1)
    assert read_snapshot(plates.out).commits == ()
    for name in gone:
        plates.put(name, plates.contents[name])
    plates.index()
    summary = plates.score(max_rejected=0.1)
    assert (summary.images, summary.scored) == (12, 12)
    assert plates.rows().keys() == plates.contents.keys()
    assert not list(Path(plates.out, "_work").glob("*"))


def test_heat_maps_of_the_worst_are_of_their_run_and_named_in_its_record(plates: Plates) -> None:
    first = plates.score(worst=2)
    plates.put("plate-12.png", plate(60))
    plates.put("plate-13.png", plate(61))
    plates.index()
    second = plates.score(worst=2)
    for summary, commit in zip((first, second), read_commits(plates.out), strict=True):
        rows = [row for row in plates.rows().values() if row["run_id"] == summary.run_id]
        worst = sorted(rows, key=lambda row: -row["image_score"])[:2]
        names = [
            f"heatmaps/{summary.run_id}/{rank:04d}-{row['image_id']}.jpg"
            for rank, row in enumerate(worst, start=1)
        ]
        assert list(commit.runs[0].heatmaps) == names
        assert summary.heatmaps == [f"{plates.out}/{name}" for name in names]
    assert len(_files(plates.out, "heatmaps")) == 4


def test_a_run_that_dies_at_its_commit_is_foreseen_and_taken_over(
    plates: Plates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "publish", _die)
        with pytest.raises(KeyboardInterrupt):
            plates.score(worst=1)
    plates.put("plate-12.png", plate(12))
    plates.index()
    before = _files(plates.out)
    plan = forecast(plates.manifest, plates.model, plates.out, plates.settings(tile_batch=8))
    assert _files(plates.out) == before
    assert (plan.images, plan.taken_over) == (1, ("took over 12 images of interrupted runs",))
    summary = plates.score(tile_batch=8, worst=1)
    assert (summary.images, summary.taken_over) == (13, 12)
    (commit,) = read_commits(plates.out)
    (name,) = commit.runs[0].heatmaps
    assert Path(plates.out, name).read_bytes().startswith(b"\xff\xd8")
    assert set(commit.runs[0].run_ids) == {row["run_id"] for row in plates.rows().values()}
    assert plates.rows().keys() == plates.contents.keys()


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def _files(out: str, below: str = "") -> set[str]:
    """URIs of all files in a score directory."""
    return {info.uri for info in list_objects(f"{out}/{below}".rstrip("/"))}
