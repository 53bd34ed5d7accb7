from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.index import IndexSummary, build_index
from raysvq.data.manifest import open_manifest, select
from raysvq.data.preflight import require_readable
from raysvq.data.sources.folder_scan import BESIDE
from raysvq.data.sources.names import HIDDEN, RESULTS, SYSTEM
from raysvq.errors import DataError, StorageError
from raysvq.schema import MANIFEST
from raysvq.settings import SplitSettings
from raysvq.storage import exists, file_infos, join


def _index(source: str, **options: Any) -> tuple[IndexSummary, list[dict[str, Any]]]:
    """Index to a manifest beside the source."""
    summary = build_index(source, f"{source}.manifest.parquet", SplitSettings.model_validate(options))
    table = open_manifest(summary.manifest).to_table()
    assert table.schema.equals(MANIFEST)
    return summary, table.to_pylist()


def _labelled(folder: Any, rows: list[dict[str, Any]]) -> str:
    """A listing whose images exist."""
    for row in rows:
        folder.image(row["uri"])
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return folder.csv([{column: row.get(column) for column in columns} for row in rows])


def test_an_index_accounts_for_every_image(folder: Any) -> None:
    summary, rows = _index(folder.tree(good=12, bad=5), outliers=2)
    assert summary.images == len(rows) == 18
    assert summary.missing == 0
    assert summary.counts == Counter((row["split"], row["label"]) for row in rows)
    assert sum(row["split"] in ("train", "validation") and row["label"] == "anomalous" for row in rows) == 2
    assert sum(row["split"] == "test" and row["label"] == "anomalous" for row in rows) == 3
    assert len({row["image_id"] for row in rows}) == 18


def test_the_same_seed_writes_the_same_manifest(folder: Any) -> None:
    source = folder.tree(good=30, bad=6)
    first, again = _index(source, outliers=3, seed=2)[1], _index(source, outliers=3, seed=2)[1]
    assert first == again
    assert _index(source, outliers=3, seed=3)[1] != first


def test_an_unlabelled_folder_is_there_to_be_scored(folder: Any) -> None:
    names = ["a.png", "shift 2/b#1.png"]
    for name in names:
        folder.image(f"set/{name}")
    summary, rows = _index(join(folder.uri, "set"))
    assert summary.counts == {("none", "unknown"): 2}
    assert [row["uri"] for row in rows] == [join(folder.uri, "set", name) for name in names]


def test_sizes_and_etags_are_those_of_the_store(s3: str, folder: Any) -> None:
    _, rows = _index(folder.tree(good=2, bad=0))
    infos = file_infos([row["uri"] for row in rows])
    assert [row["size_bytes"] for row in rows] == [info and info.size_bytes for info in infos]
    assert all((row["etag"] is not None) == row["uri"].startswith(s3) for row in rows)


def test_images_added_later_do_not_move_the_others(disk: Any) -> None:
    for number in range(40):
        disk.image(f"tree/train/good/{number:03}.png")
    source = join(disk.uri, "tree")
    before = {row["uri"]: row["split"] for row in _index(source)[1]}
    for number in range(40, 60):
        disk.image(f"tree/train/good/{number:03}.png")
    after = {row["uri"]: row["split"] for row in _index(source)[1]}
    assert before.items() <= after.items()
    assert len(after) == 60


def test_meta_group_and_time_reach_the_manifest(disk: Any) -> None:
    listing = _labelled(
        disk,
        [
            {
                "uri": "a.png",
                "label": "normal",
                "group": "lot 1",
                "captured_at": "2026-05-04T10:00:00Z",
                "line": "4",
            },
            {"uri": "b.png", "label": "normal", "group": "lot 2", "line": ""},
        ],
    )
    _, rows = _index(listing)
    assert [row["group"] for row in rows] == ["lot 1", "lot 2"]
    assert [dict(row["meta"]) for row in rows] == [{"line": "4"}, {}]
    assert [row["captured_at"] and row["captured_at"].isoformat() for row in rows] == [
        "2026-05-04T10:00:00+00:00",
        None,
    ]


def test_missing_files_are_counted_and_kept(disk: Any) -> None:
    disk.image("a.png")
    summary, rows = _index(disk.csv([{"uri": "a.png"}, {"uri": "gone.png"}, {"uri": "gone too.png"}]))
    assert (summary.images, summary.missing) == (3, 2)
    assert [row["size_bytes"] > 0 for row in rows] == [True, False, False]


def test_groups_stay_together_in_the_manifest(disk: Any) -> None:
    listing = _labelled(
        disk,
        [{"uri": f"{number}.png", "label": "normal", "group": f"part {number // 3}"} for number in range(60)],
    )
    _, rows = _index(listing)
    splits = {
        row["group"]: {other["split"] for other in rows if other["group"] == row["group"]} for row in rows
    }
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "validation", "test"}


def test_a_mask_of_another_size_is_named_with_both_sizes(disk: Any) -> None:
    source = disk.tree(bad=2)
    mask = disk.image("tree/ground_truth/scratch/001_mask.png", size=(16, 9))
    with pytest.raises(DataError) as failure:
        _index(source)
    assert str(failure.value) == (
        f"mask of another size: {mask} is 9 x 16 pixels, its image {source}/test/scratch/001.png 9 x 8"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file|does not exist"), (b"", "empty: 0 bytes"), (b"text", "not_an_image")],
)
def test_a_mask_that_cannot_be_read_is_named(folder: Any, content: bytes | None, why: str) -> None:
    folder.image("a.png")
    if content is not None:
        folder.file("mask.png", content)
    listing = folder.csv([{"uri": "a.png", "label": "anomalous", "mask_uri": "mask.png"}])
    with pytest.raises(DataError, match=rf"mask \S+/mask\.png of \S+/a\.png cannot be read: .*({why})"):
        _index(listing)


def test_a_mask_on_a_normal_image_is_a_contradiction(disk: Any) -> None:
    disk.image("a.png")
    disk.image("mask.png")
    with pytest.raises(DataError, match=r"a\.png is labelled normal, but has the mask \S+mask\.png"):
        _index(disk.csv([{"uri": "a.png", "label": "normal", "mask_uri": "mask.png"}]))


def test_a_mask_whose_image_is_damaged_is_left_to_scoring(disk: Any) -> None:
    disk.file("a.png", b"damaged")
    disk.image("mask.png")
    rows = [{"uri": name, "label": "anomalous", "mask_uri": "mask.png"} for name in ("a.png", "gone.png")]
    assert _index(disk.csv(rows))[0].images == 2


@pytest.mark.parametrize("other", ["a.png", "./a.png", "sub/../a.png"])
def test_an_image_listed_twice_is_named(disk: Any, other: str) -> None:
    image = disk.image("a.png")
    with pytest.raises(DataError) as failure:
        _index(disk.csv([{"uri": "a.png"}, {"uri": "b.png"}, {"uri": other}]))
    assert str(failure.value) == f"{image} is listed 2 times; an image may have one row"


def test_nothing_to_index_says_what_was_looked_for(folder: Any) -> None:
    folder.file("set/readme.txt", b"no images here")
    with pytest.raises(DataError, match=r"no images found in \S+/set; looked for .*\.jpg.*\.png"):
        _index(join(folder.uri, "set"))
    assert not exists(join(folder.uri, "set.manifest.parquet"))


def test_an_empty_folder_and_an_empty_listing_hold_no_images(disk: Any, tmp_path: Any) -> None:
    (tmp_path / "empty").mkdir()
    for source in (str(tmp_path / "empty"), disk.file("l.csv", b"uri,label\n")):
        with pytest.raises(DataError, match="no images found in"):
            _index(source)


def test_too_much_gamma_writes_no_manifest(disk: Any) -> None:
    source = disk.tree(good=20, bad=2)
    with pytest.raises(
        DataError, match=r"split\.gamma=0\.5 asks for 20 .* has 2 anomalous .* at most gamma=0\.09"
    ):
        _index(source, gamma=0.5)
    assert not exists(f"{source}.manifest.parquet")


def test_a_source_or_manifest_out_of_reach_is_named(disk: Any) -> None:
    with pytest.raises(StorageError, match="nowhere: no such file"):
        _index(join(disk.uri, "nowhere"))
    image = disk.image("set/a.png")
    with pytest.raises(StorageError, match="cannot write"):
        build_index(join(disk.uri, "set"), join(image, "manifest.parquet"), SplitSettings())


def test_paths_may_be_relative(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image = disk.image("set/a.png")
    monkeypatch.chdir(disk.uri)
    summary = build_index("set/", "out/manifest.parquet", SplitSettings())
    assert summary.manifest == join(disk.uri, "out/manifest.parquet")
    assert open_manifest(summary.manifest).to_table()["uri"].to_pylist() == [image]


def test_a_copy_of_the_set_elsewhere_is_split_alike(disk: Any) -> None:
    splits = []
    for name in ("here", "there"):
        copy = type(disk)(join(disk.uri, name))
        source = copy.tree(good=30, bad=8)
        _, rows = _index(source, outliers=3)
        splits.append({row["uri"].removeprefix(source): row["split"] for row in rows})
    assert splits[0] == splits[1]
    assert len(set(splits[0].values())) == 3


def test_an_empty_day_makes_an_empty_manifest_where_that_is_allowed(folder: Any) -> None:
    folder.file("day/notes.txt", b"no image")
    source, out = join(folder.uri, "day"), join(folder.uri, "day.parquet")
    summary = build_index(source, out, SplitSettings(outliers=3), allow_empty=True)
    assert (summary.images, summary.counts) == (0, {})
    assert open_manifest(out).to_table().equals(MANIFEST.empty_table())
    assert summary.lines()[-1] == f"no images in {source}: 0 images in {out}"
    assert select(out, split="train").num_rows == 0
    require_readable([])


def test_a_prefix_that_is_not_there_is_an_empty_day_in_a_bucket_alone(s3: str, disk: Any) -> None:
    out = join(disk.uri, "m.parquet")
    assert build_index(join(s3, "no such day"), out, SplitSettings(), allow_empty=True).images == 0
    for source in (
        join(disk.uri, "no such day"),
        join(s3, "no such.csv"),
        "s3://no-such-bucket-of-ours/day",
    ):
        with pytest.raises(StorageError, match="no such file, folder or bucket"):
            build_index(source, out, SplitSettings(), allow_empty=True)
    with pytest.raises(StorageError, match="no such file, folder or bucket"):
        build_index(join(s3, "no such day"), out, SplitSettings())


def test_pictures_that_are_not_read_are_no_empty_day(disk: Any) -> None:
    for name, content in (("a.heic", b"x"), ("b", b"\x89PNG\r\n\x1a\n")):
        source = join(disk.uri, name.replace(".", "-"))
        disk.file(f"{name.replace('.', '-')}/{name}", content)
        with pytest.raises(DataError, match=r"no images found in .*skipped 1: "):
            build_index(source, f"{source}.parquet", SplitSettings(), allow_empty=True)


def test_missing_files_are_named_and_none_but_missing_ones_are_refused(disk: Any) -> None:
    disk.image("a.png")
    gone = [{"uri": f"gone-{number}.png"} for number in range(5)]
    summary, _ = _index(disk.csv([{"uri": "a.png"}, *gone]))
    assert summary.lines()[-2] == (
        "5 listed images do not exist; scoring will reject them by name:"
        f" {', '.join(f'{disk.uri}/gone-{number}.png' for number in range(3))}, …"
    )
    with pytest.raises(DataError, match=r"none of the 5 images of \S+ exists: looked for \S+/gone-0\.png, "):
        _index(disk.csv(gone, "gone.csv"))
    assert not exists(f"{disk.uri}/gone.csv.manifest.parquet")


@pytest.mark.parametrize("name", ["uri=x", "it's", 'a "b"', "[x]", "*", "?", "d" * 200])
def test_the_folder_for_temporary_files_may_have_any_name(
    disk: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    source = disk.tree(good=4, bad=1)
    assert _index(source)[0].images == 6
    with pytest.raises(DataError, match="is listed 2 times"):
        _index(disk.csv([{"uri": "tree/test/good/000.png"}, {"uri": "./tree/test/good/000.png"}]))
    assert list((tmp_path / name).iterdir()) == []


def test_a_manifest_is_a_listing_that_keeps_what_it_says(disk: Any) -> None:
    listing = _labelled(
        disk,
        [
            {"uri": f"{number}.png", "label": "normal", "group": f"part {number}", "line": "4"}
            | {"captured_at": "2026-05-04T10:00:00Z", "defect_type": ""}
            for number in range(12)
        ],
    )
    summary, rows = _index(listing)
    assert {"train", "validation", "test"} == {row["split"] for row in rows}
    assert _index(summary.manifest)[1] == rows


def test_a_tree_in_a_bucket_is_the_tree_on_disk(folder: Any) -> None:
    source = folder.tree(good=3, bad=1)
    for name in (
        *("train/.ipynb_checkpoints/0.png", "test/@eaDir/0.png/x.png", "test/good/._0.png", "readme.txt"),
        *("train/good/Thumbs.db", "test/.Trash-1000/files/0.png", "test/scratch/b.heic"),
    ):
        folder.image(f"tree/{name}")
    summary, rows = _index(source)
    assert len(rows) == 5
    assert {cause: count for cause, (count, _) in summary.skipped.counts.items()} == {
        BESIDE: 1,
        HIDDEN: 3,
        SYSTEM: 2,
        ".heic files, a format that is not read": 1,
    }


def test_results_below_a_prefix_are_not_its_images(folder: Any) -> None:
    folder.image("day/line 1/a.png")
    for name in ("_commits/run.json", "_leases/run.json", "heatmaps/a.jpg", "scores/part.parquet"):
        folder.image(f"day/out/{name}")
    summary, rows = _index(join(folder.uri, "day"))
    assert [row["uri"] for row in rows] == [join(folder.uri, "day/line 1/a.png")]
    assert summary.skipped.counts == {RESULTS: (4, join(folder.uri, "day/out/_commits/"))}


def test_a_relative_entry_finds_its_file_beside_the_folder_of_the_listing(folder: Any) -> None:
    image = folder.image("images/a b.png")
    listing = folder.csv([{"uri": "../images/./a b.png"}], "lists/l.csv")
    assert [row["uri"] for row in _index(listing)[1]] == [image]
    with pytest.raises(DataError, match=r"row 1: \S+: `\.\.` leads out of the bucket|none of the 1 images"):
        _index(folder.csv([{"uri": "../" * 30 + "a.png"}], "lists/m.csv"))
