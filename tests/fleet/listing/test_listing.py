"""What a fleet's templates find on a disk and in a bucket, and what it costs."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.fleet.listing.listing import LISTED, Listing, list_fleet
from raysvq.fleet.settings.file import load_fleet
from raysvq.storage import ObjectInfo, image_id

UNTIL = date(2026, 5, 4)
DATED = "{site}/{camera}/{date:%Y-%m-%d}/{name}.png"


def _since(camera: str) -> date:
    return UNTIL - timedelta(days=3)


def _put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def _list(folder: Path, *entries: str, more: str = "", only: tuple[str, ...] = ()) -> Listing:
    """Of a fleet with these entries, each as it stands in the file behind `- `."""
    path = folder / "fleet.yaml"
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    path.write_text(
        f"fleet: f\nout: raw/out\ntimezone: Europe/Berlin\ndefaults: {{model: m}}\ncameras:\n{lines}{more}"
    )
    (folder / "tmp").mkdir(exist_ok=True)
    return list_fleet(load_fleet(path), _since, UNTIL, folder / "tmp", only)


def _images(template: str, root: Path) -> str:
    return f'images: "{root}/{template}"'


def _uris(listing: Listing) -> list[str]:
    return sorted(pq.read_table(listing.path)["uri"].to_pylist())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def test_images_of_the_window_have_camera_date_and_fields(raw: Path, tmp_path: Path) -> None:
    _put(raw, "n/c1/2026-05-04/a.png", "n/c1/2026-05-01/b.png", "n/c1/2026-04-30/old.png")
    _put(raw, "s/c2/2026-05-03/c.png", "s/c2/2026-05-05/tomorrow.png")
    (raw / "s/c3/2026-01-01").mkdir(parents=True)
    found = _list(tmp_path, _images(DATED, raw))
    table = pq.read_table(found.path)
    assert table.schema.equals(LISTED)
    rows = {row["uri"].rpartition("/")[2]: row for row in table.to_pylist()}
    assert rows.keys() == {"a.png", "b.png", "c.png"}
    one = rows["a.png"]
    assert one["camera"] == "n.c1"
    assert one["date"] == UNTIL
    assert dict(one["meta"]) == {"site": "n", "camera": "c1"}
    assert one["image_id"] == image_id(f"{raw}/n/c1/2026-05-04/a.png")
    assert (one["size_bytes"], one["captured_at"]) == (1, None)
    assert abs(one["mtime"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert found.images == {"n.c1": 2, "s.c2": 1, "s.c3": 0}
    assert found.cameras.keys() == found.images.keys()
    assert found.cameras["n.c1"].model == f"{tmp_path}/m"
    assert found.failures == {}


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{camera}/{date:%Y}/{date:%m}/{date:%d}/{name}.png", ("c/2026/05/04/a.png", "c/2026/04/04/b.png")),
        ("{date:%Y/%m/%d}/{camera}/{name}.png", ("2026/05/04/c/a.png", "2026/05/05/c/b.png")),
        ("{camera}_{date:%Y%m%d}_{name}.png", ("c_20260504_a.png", "c_20260404_b.png")),
        ("{date:%Y%m%dT%H%M%S}_{camera}.png", ("20260504T233000_c.png", "20260404T233000_c.png")),
        (
            "{camera}/shift-{*}_{date:%Y%m%d}/{name}.png",
            ("c/shift-1_20260504/a.png", "c/shift-1_20260404/b.png"),
        ),
        ("{camera}/{date:%Y-%m-%d}/{camera}.png", ("c/2026-05-04/c.png", "c/2026-05-04/d.png")),
    ],
)
def test_a_date_may_stand_anywhere(raw: Path, tmp_path: Path, template: str, names: tuple[str, str]) -> None:
    _put(raw, *names)
    found = _list(tmp_path, _images(template, raw))
    assert _uris(found) == [f"{raw}/{names[0]}"]
    [row] = pq.read_table(found.path).to_pylist()
    assert (row["camera"], row["date"]) == ("c", UNTIL)
    if "%H" in template:
        assert row["captured_at"] == datetime(2026, 5, 4, 21, 30, tzinfo=UTC)


def test_each_camera_has_its_own_window(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = {"a": UNTIL, "b": UNTIL - timedelta(days=9), "": UNTIL - timedelta(days=5)}
    monkeypatch.setitem(globals(), "_since", windows.__getitem__)
    days = [f"{UNTIL - timedelta(n)}" for n in range(12)]
    _put(raw, *(f"{camera}/{day}/{camera}-{day}.png" for camera in "ab" for day in days))
    assert _list(tmp_path, _images("{camera}/{date:%Y-%m-%d}/{name}.png", raw)).images == {"a": 1, "b": 10}
    dates_first = tmp_path / "first"
    _put(dates_first, *(f"{day}/{camera}/{camera}-{day}.png" for camera in "ab" for day in days))
    found = _list(tmp_path, _images("{date:%Y-%m-%d}/{camera}/{name}.png", dates_first))
    assert found.images == {"a": 1, "b": 6}


def test_what_is_no_image_is_left_out_and_counted(raw: Path, tmp_path: Path) -> None:
    good = "n/c/2026-05-04/<img src=x onerror=alert(1)>& 'a'.png"
    _put(raw, good, "n/c/2026-05-04/.hidden.png", "n/c/2026-05-04/Thumbs.db", "n/c/2026-05-04/note.txt")
    _put(
        raw,
        "n/c/2026-05-04/photo.jpg",
        "n/c/2026-05-04/sub/deep.png",
        "n/high.png",
        "n/.git/2026-05-04/x.png",
    )
    _put(raw, "n/#recycle/2026-05-04/x.png", "out/cameras/2026-05-04/x.png")
    _put(raw, "n/scored/_commits/00001.json", "n/scored/scores/x.png")
    found = _list(tmp_path, _images(DATED, raw))
    assert _uris(found) == [f"{raw}/{good}"]
    counts = {cause: count for cause, (count, _) in found.skips.counts.items()}
    assert counts == {
        "hidden files or folders": 2,
        "files or folders of a system or a viewer": 2,
        ".txt files": 1,
        "images that no template fits": 1,
        "folders beside the images of a template": 1,
        "files beside the folders of a template": 1,
        "results of raysvq": 1,
    }
    assert not any(name.startswith("out") for name in found.cameras)


def test_an_undated_template_lists_all_of_it(raw: Path, tmp_path: Path) -> None:
    _put(raw, "a.png", "b.jpg", "c.txt")
    found = _list(tmp_path, f"{_images('{name}', raw)}, camera: stock, whole_prefix: true")
    assert _uris(found) == [f"{raw}/a.png", f"{raw}/b.jpg"]
    rows = pq.read_table(found.path)
    assert rows["date"].to_pylist() == [None, None]
    assert rows["meta"].to_pylist() == [[("camera", "stock")]] * 2
    assert found.images == {"stock": 2}


def test_only_asks_for_some_cameras(raw: Path, tmp_path: Path) -> None:
    _put(raw, *(f"n/c{n}/2026-05-04/a.png" for n in range(12)))
    found = _list(tmp_path, _images(DATED, raw), only=("n.c1*", "n.c3"))
    assert found.images == {"n.c1": 1, "n.c10": 1, "n.c11": 1, "n.c3": 1}
    other = f"camera: x, {_images('gone/{date:%Y%m%d}.png', raw)}"
    assert _list(tmp_path, _images(DATED, raw), other, only=("n.c3",)).failures == {}


def test_a_forbidden_prefix_fails_its_camera_and_the_others_go_on(tmp_path: Path, bucket: FakeS3) -> None:
    for camera in ("n/c1", "n/c2", "s/c3"):
        bucket.put(f"raw/{camera}/2026-05-04/a.png", b"x")
    bucket.forbidden = {"raw/n/c1/", "raw/s/"}
    found = _list(tmp_path, f'images: "s3://{BUCKET}/raw/{DATED}"')
    assert found.failures.keys() == {"n.c1", f"s3://{BUCKET}/raw/s"}
    assert "permission denied (403 Forbidden AccessDenied)" in found.failures["n.c1"]
    assert found.images == {"n.c1": 0, "n.c2": 1}


def test_keys_that_are_no_paths_are_no_cameras(tmp_path: Path, bucket: FakeS3) -> None:
    for key in (
        "n/c/2026-05-04/a.png",
        "/n/2026-05-04/a.png",
        "n//2026-05-04/a.png",
        "../c/2026-05-04/a.png",
    ):
        bucket.put(f"raw/{key}", b"x")
    for key in ("n/c/2026-05-04/", "n/c/2026-05-04//a.png", "n/c\nd/2026-05-04/\x01.png", "n/e/"):
        bucket.put(f"raw/{key}", b"")
    found = _list(tmp_path, f'images: "s3://{BUCKET}/raw/{DATED}"')
    assert found.images == {"n.c": 1, "n.c\nd": 1, "n.e": 0}
    assert found.failures == {}


def test_a_forbidden_date_fails_the_cameras_that_may_be_in_it(tmp_path: Path, bucket: FakeS3) -> None:
    for day in ("2026-05-03", "2026-05-04"):
        bucket.put(f"raw/{day}/c1/a.png", b"x")
    bucket.forbidden = {"raw/2026-05-04/"}
    found = _list(tmp_path, f'images: "s3://{BUCKET}/raw/{{date:%Y-%m-%d}}/{{camera}}/{{name}}.png"')
    assert found.failures.keys() == {"c1", f"s3://{BUCKET}/raw/2026-05-04"}


@pytest.mark.parametrize(
    ("entry", "failed", "why"),
    [
        (
            'images: "{raw}/nowhere/{{c}}/{{date:%Y%m%d}}.png"',
            "{raw}/nowhere",
            "no such file, folder or bucket",
        ),
        ('camera: x, images: "{raw}/nowhere/{{date:%Y%m%d}}.png"', "x", "no such file, folder or bucket"),
        ('images: "s3://gone/raw/{{c}}/{{date:%Y%m%d}}.png"', "s3://gone/raw", "cannot list s3://gone/raw: "),
        ('images: "{raw}/empty/{{c}}/{{date:%Y%m%d}}.png"', "{raw}/empty", "no folder or image in it fits"),
    ],
)
def test_a_place_that_is_not_there_is_named_and_the_others_go_on(
    raw: Path, tmp_path: Path, s3: str, entry: str, failed: str, why: str
) -> None:
    _put(raw, "n/c/2026-05-04/a.png")
    (raw / "empty").mkdir()
    found = _list(tmp_path, entry.format(raw=raw), _images("n/{camera}/{date:%Y-%m-%d}/{name}.png", raw))
    assert found.failures.keys() == {failed.format(raw=raw)}
    assert why in found.failures[failed.format(raw=raw)]
    assert found.images["c"] == 1


def test_two_entries_that_claim_one_image_fail_and_the_others_go_on(raw: Path, tmp_path: Path) -> None:
    _put(raw, "n/c1/2026-05-04/a.png", "n/c2/2026-05-04/b.png")
    found = _list(
        tmp_path, _images(DATED, raw), f"camera: mine, {_images('n/c1/{date:%Y-%m-%d}/{*}.png', raw)}"
    )
    assert found.failures.keys() == {"mine", "n.c1"}
    assert found.failures["mine"] == (
        f"{tmp_path}/fleet.yaml: camera 'mine' (line 7) and camera 'n.c1' (line 6) claim the same 1 image(s),"
        f" such as {raw}/n/c1/2026-05-04/a.png; expected each image in one entry"
    )
    assert _uris(found) == [f"{raw}/n/c2/2026-05-04/b.png"]
    assert found.images == {"mine": 0, "n.c1": 0, "n.c2": 1}


def test_an_entry_whose_cameras_are_claimed_twice_is_not_called_empty(raw: Path, tmp_path: Path) -> None:
    _put(raw, "n/c1/2026-05-04/1a.png")
    found = _list(tmp_path, _images(DATED, raw), _images("{plant}/{unit}/{date:%Y-%m-%d}/1{name}.png", raw))
    assert found.failures.keys() == {"n.c1"}


def test_two_cameras_of_one_name_fail_and_the_others_go_on(raw: Path, tmp_path: Path) -> None:
    _put(raw, "a.b/c/2026-05-04/a.png", "a/b.c/2026-05-04/b.png", "n/c/2026-05-04/c.png")
    found = _list(tmp_path, _images(DATED, raw))
    assert found.failures.keys() == {"a.b.c"}
    assert "both have a camera 'a.b.c'; expected a name for each camera" in found.failures["a.b.c"]
    assert "(site=a.b, camera=c)" in found.failures["a.b.c"]
    assert "(site=a, camera=b.c)" in found.failures["a.b.c"]
    assert _uris(found) == [f"{raw}/n/c/2026-05-04/c.png"]


def test_what_the_file_cannot_mean_fails_the_camera_it_is_for(raw: Path, tmp_path: Path) -> None:
    _put(raw, "n/ab/2026-05-04/a.png", "n/b/2026-05-04/b.png")
    more = (
        "overrides:\n  - {match: {camera: 'a*'}, expect: {warn_after: 2d}}\n"
        "  - {match: {camera: '*b'}, expect: {error_after: 1d}}\n"
    )
    found = _list(tmp_path, _images(DATED, raw), more=more)
    assert found.failures.keys() == {"n.ab"}
    assert "warn_after is longer than error_after" in found.failures["n.ab"]
    assert found.images == {"n.b": 1}


def test_listing_costs_the_window_and_not_the_history(tmp_path: Path, bucket: FakeS3) -> None:
    requests = []
    for history in (10, 200):
        for night in range(history):
            for camera in ("n/c1", "n/c2", "s/c3"):
                bucket.put(f"raw/{camera}/{UNTIL - timedelta(night)}/a.png", b"x")
        bucket.requests.clear()
        found = _list(tmp_path, f'images: "s3://{BUCKET}/raw/{DATED}"')
        assert found.images == {"n.c1": 4, "n.c2": 4, "s.c3": 4}
        requests.append(len(bucket.requests))
    assert requests == [1 + 2 + 3 * 4] * 2  # sites, cameras of each, four days of each


def test_a_thousand_cameras_are_listed_in_seconds(raw: Path, tmp_path: Path) -> None:
    for camera in range(1000):
        for back in range(3):
            folder = raw / f"s{camera % 10}/c{camera}/{UNTIL - timedelta(back)}"
            folder.mkdir(parents=True)
            for name in ("a.png", "b.png"):
                (folder / name).touch()
    started = time.process_time()  # of all threads
    found = _list(tmp_path, _images(DATED, raw))
    assert len(found.cameras) == 1000
    assert sum(found.images.values()) == 6000
    assert time.process_time() - started < 10  # takes about 1 s


def test_memory_is_flat_in_the_number_of_images(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = []
    for count in (4_000, 16_000):

        def level(folder: str, *_: object, count: int = count) -> Iterator[ObjectInfo]:
            return (ObjectInfo(f"{folder}/{n:06d}.png", 1, "e", None) for n in range(count))

        monkeypatch.setattr("raysvq.fleet.listing.walk.CHUNK", 500)
        monkeypatch.setattr("raysvq.fleet.listing.listing.ROW_GROUP", 1000)
        monkeypatch.setattr("raysvq.fleet.listing.walk.list_folder", level)
        tracemalloc.start()
        assert _list(tmp_path, f"{_images('{name}.png', raw)}, camera: c, whole_prefix: true").images == {
            "c": count
        }
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], peaks
