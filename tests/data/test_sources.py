from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from raysvq.data.manifest import Row
from raysvq.data.sources import rows_of
from raysvq.data.sources.folder_scan import Skips
from raysvq.data.sources.names import NOT_UTF8
from raysvq.errors import DataError, StorageError
from raysvq.schema import MANIFEST
from raysvq.storage import canonical, image_id, join


def _rows(source: str) -> list[Row]:
    return list(rows_of(source))


def _named(rows: list[Row], root: str, *fields: str) -> dict[str, Any]:
    """URI below `root` -> the value of a field, or values of fields."""
    return {
        row["uri"].removeprefix(root + "/"): row[fields[0]]
        if len(fields) == 1
        else tuple(row[f] for f in fields)
        for row in rows
    }


def test_a_tree_gives_labels_splits_masks_and_kinds(folder: Any) -> None:
    root = folder.tree(good=2, bad=1)
    folder.image("tree/test/dent/a.png")
    rows = _rows(root)
    assert _named(rows, root, "split", "label", "defect_type", "mask_uri") == {
        "train/good/000.png": ("train", "normal", None, None),
        "train/good/001.png": ("train", "normal", None, None),
        "test/good/000.png": ("test", "normal", None, None),
        "test/dent/a.png": ("test", "anomalous", "dent", None),
        "test/scratch/000.png": ("test", "anomalous", "scratch", f"{root}/ground_truth/scratch/000_mask.png"),
    }
    assert all(set(row) == set(MANIFEST.names) for row in rows)
    assert all(row["image_id"] == image_id(row["uri"]) for row in rows)


def test_a_tree_takes_masks_of_another_suffix_or_name(disk: Any) -> None:
    root = disk.tree(good=1, bad=0)
    for name in ("test/scratch/a.bmp", "ground_truth/scratch/a.png", "ground_truth/scratch/Thumbs.db"):
        disk.image(f"tree/{name}")
    masks = _named(_rows(root), root, "mask_uri")
    assert masks["test/scratch/a.bmp"] == f"{root}/ground_truth/scratch/a.png"


def test_a_mask_without_an_image_is_named(disk: Any) -> None:
    root = disk.tree(good=1, bad=1)
    disk.image("tree/ground_truth/scratch/007_mask.png")
    with pytest.raises(DataError) as failure:
        _rows(root)
    assert str(failure.value) == (
        f"mask without image: {root}/ground_truth/scratch/007_mask.png expects an image"
        f" {root}/test/scratch/007.*"
    )
    disk.image("tree/ground_truth/scratch/008_mask.png")
    with pytest.raises(DataError, match=r"\(2 such masks\)$"):
        _rows(root)


def test_folders_below_a_label_keep_it_and_their_masks(disk: Any) -> None:
    disk.image("tree/train/good/lot1/000.png")
    disk.image("tree/test/scratch/lot1/000.png")
    disk.image("tree/test/scratch/lot2/000.png")
    mask = disk.image("tree/ground_truth/scratch/lot2/000_mask.png")
    rows = {row["uri"].partition("/tree/")[2]: row for row in _rows(f"{disk.uri}/tree")}
    assert rows["train/good/lot1/000.png"]["label"] == "normal"
    assert rows["test/scratch/lot1/000.png"]["mask_uri"] is None
    assert rows["test/scratch/lot2/000.png"]["mask_uri"] == mask
    assert rows["test/scratch/lot2/000.png"]["defect_type"] == "scratch"


def test_an_image_without_a_label_folder_is_named(disk: Any) -> None:
    disk.image("tree/train/000.png")
    with pytest.raises(DataError, match=r"train/000\.png stands in no folder"):
        _rows(f"{disk.uri}/tree")


def test_a_tree_may_hold_a_test_split_alone(disk: Any) -> None:
    disk.image("tree/test/scratch/000.png")
    disk.image("tree/ground_truth/scratch/000_mask.png")
    assert [row["label"] for row in _rows(f"{disk.uri}/tree")] == ["anomalous"]


def test_a_plain_folder_is_of_unknown_label_at_any_depth(folder: Any) -> None:
    names = ["b.PNG", "a.jpeg", "line 1/x#1.tif", "line 1/deep/er/y.bmp"]
    for name in [*names, "notes.txt", "line 1/index.csv", "no suffix"]:
        folder.file(name, b"x")
    rows = _rows(folder.uri)
    assert set(_named(rows, folder.uri, "uri")) == set(names)
    assert {(row["label"], row["split"], row["mask_uri"], row["group"]) for row in rows} == {
        ("unknown", None, None, None)
    }
    assert all(row["size_bytes"] == 1 and row["mtime"] for row in rows)
    assert all((row["etag"] is not None) == folder.uri.startswith("s3://") for row in rows)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_listing_gives_every_field_and_the_rest_as_meta(folder: Any, kind: str) -> None:
    images = [folder.image(f"images/{name}.png") for name in ("a", "b c#1", "ü")]
    mask = folder.image("masks/b.png")
    cells = [
        {"uri": "images/a.png", "label": "normal", "split": "train", "line": "3"},
        {
            "uri": "images/b c#1.png",
            "label": "anomalous",
            "mask_uri": "masks/b.png",
            "split": "test",
            "group": "lot 7",
            "defect_type": "dent",
            "captured_at": "2026-05-04T10:00:00Z",
            "line": "0",
            "shift": "late",
        },
        {"uri": images[2]},
    ]
    columns = ["uri", "label", "mask_uri", "split", "group", "defect_type", "captured_at", "line", "shift"]
    full = [{column: row.get(column) for column in columns} for row in cells]
    rows = _rows(folder.csv(full) if kind == "csv" else folder.parquet(full))
    assert [row["uri"] for row in rows] == images
    assert [row["label"] for row in rows] == ["normal", "anomalous", "unknown"]
    assert [row["split"] for row in rows] == ["train", "test", None]
    assert [row["mask_uri"] for row in rows] == [None, mask, None]
    assert [row["group"] for row in rows] == [None, "lot 7", None]
    assert [row["defect_type"] for row in rows] == [None, "dent", None]
    assert rows[1]["captured_at"] == datetime(2026, 5, 4, 10, tzinfo=UTC)
    assert [dict(row["meta"]) for row in rows] == [{"line": "3"}, {"line": "0", "shift": "late"}, {}]
    assert all(row["size_bytes"] > 0 for row in rows)


def test_a_parquet_listing_may_hold_numbers_and_times(disk: Any) -> None:
    for number in range(2):
        disk.image(f"{number}.png")
    when = datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    rows = _rows(
        disk.parquet(
            [
                {
                    "uri": f"{number}.png",
                    "group": number,
                    "captured_at": when,
                    "line": number,
                    "ok": False,
                    "gap": None,
                }
                for number in range(2)
            ]
        )
    )
    assert [row["group"] for row in rows] == ["0", "1"]
    assert rows[0]["captured_at"] == when
    assert dict(rows[0]["meta"]) == {"line": "0", "ok": "False"}


def test_times_without_a_zone_are_utc(disk: Any) -> None:
    disk.image("a.png")
    [row] = _rows(disk.csv([{"uri": "a.png", "captured_at": "2026-05-04 10:00"}]))
    assert row["captured_at"] == datetime(2026, 5, 4, 10, tzinfo=UTC)


def test_relative_uris_are_taken_from_the_listings_folder(disk: Any, tmp_path: Path) -> None:
    image = disk.image("set/images/a.png")
    other = tmp_path / "elsewhere.png"
    other.write_bytes(b"x")
    listing = disk.csv([{"uri": "../images/a.png"}, {"uri": str(other)}], "set/listings/l.csv")
    assert [row["uri"] for row in _rows(listing)] == [canonical(image), str(other)]


def test_a_listing_on_disk_may_name_objects_in_a_bucket(disk: Any, s3: str) -> None:
    uri = join(s3, "listed", "a.png")
    bucket = type(disk)(join(s3, "listed"))
    bucket.image("a.png")
    rows = _rows(disk.csv([{"uri": uri}, {"uri": join(s3, "listed", "missing.png")}]))
    assert [(row["uri"], row["size_bytes"] > 0) for row in rows] == [
        (uri, True),
        (join(s3, "listed", "missing.png"), False),
    ]


def test_a_listed_file_that_is_missing_keeps_its_row(folder: Any) -> None:
    folder.image("there.png")
    rows = _rows(
        folder.csv([{"uri": "gone.png", "label": "normal"}, {"uri": "there.png", "label": "normal"}])
    )
    assert [row["size_bytes"] > 0 for row in rows] == [False, True]
    assert [row["mtime"] is None for row in rows] == [True, False]


def test_a_long_listing_keeps_its_order(disk: Any) -> None:
    names = [f"{number}.png" for number in range(2_345)]
    rows = _rows(disk.csv([{"uri": name} for name in names]))
    assert [row["uri"].rpartition("/")[2] for row in rows] == names


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            {"uri": "a.png", "label": "good"},
            "row 2: label is 'good', expected one of normal, anomalous, unknown",
        ),
        (
            {"uri": "a.png", "split": "val"},
            "row 2: split is 'val', expected one of train, validation, test, none",
        ),
        (
            {"uri": "a.png", "captured_at": "yesterday"},
            "row 2: captured_at is 'yesterday', expected ISO 8601",
        ),
        ({"uri": "", "label": "normal"}, "row 2: the URI is empty"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_wrong_value_names_row_found_and_expected(
    disk: Any, kind: str, cells: dict[str, str], message: str
) -> None:
    columns = ["uri", "label", "split", "captured_at"]
    rows = [{"uri": "x.png"}, cells]
    full = [{column: row.get(column) for column in columns} for row in rows]
    listing = disk.csv(full) if kind == "csv" else disk.parquet(full)
    with pytest.raises(DataError) as failure:
        _rows(listing)
    assert f"{listing}, {message}" in str(failure.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"image,label\na.png,normal\n", "no column `uri`; found image, label"),
        ("l.csv", b"uri;label\na.png;normal\n", "no column `uri`; found uri;label"),
        ("l.csv", b"", "no column `uri`; found none"),
        ("l.csv", b"uri,site\na.png,K\xf6ln\n", "not readable as CSV near line"),
        ("l.csv", "uri\na.png\n".encode("utf-16"), "not readable as CSV near line"),
        ("l.csv", b"uri,label\na.png,normal,more\n", "line 2 has more cells than the header"),
        ("l.csv", b"uri,x\na.png," + b"y" * 200_000, "field larger than field limit"),
        ("l.parquet", b"nothing of the kind", "not readable as Parquet"),
        ("l.txt", b"a.png\n", "is a file, but not a .csv or .parquet listing"),
        ("a.png", b"\x89PNG", "is a file, but not a .csv or .parquet listing"),
    ],
)
def test_what_is_no_listing_says_so(disk: Any, name: str, content: bytes, message: str) -> None:
    source = disk.file(name, content)
    with pytest.raises(DataError) as failure:
        _rows(source)
    assert source in str(failure.value)
    assert message in str(failure.value)


def test_a_parquet_listing_without_uris_names_what_it_has(disk: Any) -> None:
    with pytest.raises(DataError, match="no column `uri`; found path, label"):
        _rows(disk.parquet([{"path": "a.png", "label": "normal"}]))


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfuri,label\r\na.png,normal\r\n",
        b'"uri","label"\n\n"a.png","normal"\n\n',
        b"label,uri\nnormal,a.png",
    ],
)
def test_csv_as_spreadsheets_write_it(disk: Any, content: bytes) -> None:
    disk.image("a.png")
    [row] = _rows(disk.file("l.csv", content))
    assert (row["uri"], row["label"], row["meta"]) == (join(disk.uri, "a.png"), "normal", [])


def test_a_source_that_is_not_there_is_named(folder: Any) -> None:
    with pytest.raises(StorageError, match="nowhere: no such file, folder or bucket"):
        _rows(join(folder.uri, "nowhere"))


def test_a_file_name_that_is_not_utf8_is_left_out_by_name(disk: Any) -> None:
    image = disk.image("a.png")
    Path(os.fsdecode(os.fsencode(disk.uri) + b"/b\xff.png")).write_bytes(b"x")
    skips = Skips()
    assert [row["uri"] for row in rows_of(disk.uri, skips)] == [image]
    assert skips.counts == {NOT_UTF8: (1, f"{disk.uri}/b\\udcff.png")}


def test_a_mask_that_fits_two_images_is_refused(disk: Any) -> None:
    root = disk.tree(good=1, bad=1)
    disk.image("tree/train/scratch/000.png")
    with pytest.raises(
        DataError, match=r"one mask for two images: .*train/scratch/000\.png and .*test/scratch"
    ):
        _rows(root)


def test_labels_that_are_numbers_are_refused(disk: Any) -> None:
    listing = disk.parquet([{"uri": disk.image("a.png"), "label": 0}])
    with pytest.raises(DataError, match="label is '0', expected one of normal, anomalous, unknown"):
        _rows(listing)
