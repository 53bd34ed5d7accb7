"""Keys that S3 takes and a path cannot be: each is read like any other, and hides none."""

from __future__ import annotations

import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.errors import StorageError
from raysvq.storage import (
    canonical,
    create_file,
    exists,
    file_infos,
    forget_clients,
    is_folder,
    list_objects,
    read_bytes,
    read_version,
    write_bytes,
)

ROOT = f"s3://{BUCKET}"
ODD = [
    "p//doubled.png",
    "p/./dot.png",
    "p/../up.png",
    "p/new\nline.png",
    "p/tab\there.png",
    "p/\x01control.png",
    "p/\x7fdelete.png",
    "p/two//more//.png",
]


@pytest.mark.parametrize("key", ODD)
def test_an_odd_key_is_listed_read_and_hides_no_other(fake: FakeS3, key: str) -> None:
    fake.put(key, b"odd")
    fake.put("p/a.png", b"plain")
    fake.put("p/z.png", b"plain")
    found = {info.uri: info for info in list_objects(f"{ROOT}/p")}
    assert found.keys() == {f"{ROOT}/{name}" for name in (key, "p/a.png", "p/z.png")}
    assert is_folder(f"{ROOT}/p")
    info = found[f"{ROOT}/{key}"]
    assert read_bytes(info.uri) == b"odd"
    assert read_version(info.uri, info.size_bytes, info.etag, info.mtime) == b"odd"
    [asked] = file_infos([info.uri])
    assert asked is not None
    assert (asked.size_bytes, asked.etag) == (info.size_bytes, info.etag)
    assert len(fake.requests) == 8  # nothing was tried twice


def test_a_leading_slash_is_part_of_the_key(fake: FakeS3) -> None:
    fake.put("/a.png", b"with slash")
    fake.put("a.png", b"without")
    assert [info.uri for info in list_objects(ROOT)] == [f"{ROOT}//a.png", f"{ROOT}/a.png"]
    assert read_bytes(f"{ROOT}//a.png") == b"with slash"
    assert [info.uri for info in list_objects(canonical(f"{ROOT}//"))] == [f"{ROOT}//a.png", f"{ROOT}/a.png"]


def test_a_prefix_of_odd_keys_alone_is_a_folder(fake: FakeS3) -> None:
    fake.put("odd//x.png", b"1")
    assert (is_folder(f"{ROOT}/odd"), exists(f"{ROOT}/odd"), exists(f"{ROOT}/other")) == (True, True, False)
    assert is_folder(f"{ROOT}/odd/")
    assert [info.uri for info in list_objects(f"{ROOT}/odd")] == [f"{ROOT}/odd//x.png"]


def test_an_odd_key_that_is_not_there_is_missing_at_once(fake: FakeS3) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{ROOT}/p//none.png")
    assert file_infos([f"{ROOT}/p//none.png"]) == [None]


def test_results_are_not_written_under_odd_keys(fake: FakeS3) -> None:
    for write in (write_bytes, create_file):
        with pytest.raises(StorageError, match=r"cannot write s3://fake//lead: empty path segment"):
            write(f"{ROOT}//lead", b"x")
    assert not fake.objects


def test_empty_objects_that_stand_for_folders_are_no_files(fake: FakeS3) -> None:
    fake.put("p", b"")
    fake.put("p/", b"")
    fake.put("p/inner/", b"")
    fake.put("p/inner/a.png", b"x")
    assert is_folder(f"{ROOT}/p")
    assert [info.uri for info in list_objects(f"{ROOT}/p")] == [f"{ROOT}/p/inner/a.png"]


def test_what_no_name_can_reach_is_reported_or_ends_the_listing(fake: FakeS3) -> None:
    fake.put("p/a.png/", b"content")
    fake.put("p/b.png", b"x")
    problems: list[tuple[str, str]] = []
    found = list_objects(f"{ROOT}/p", problems=lambda uri, why: problems.append((uri, why)))
    assert [info.uri for info in found] == [f"{ROOT}/p/b.png"]
    assert problems == [(f"{ROOT}/p/a.png/", "its name ends with `/`, but it holds 7 bytes")]
    with pytest.raises(StorageError, match=r"cannot list s3://fake/p: s3://fake/p/a.png/: its name ends"):
        list(list_objects(f"{ROOT}/p"))


def test_dots_of_a_given_uri_are_resolved(fake: FakeS3) -> None:
    assert canonical(f"{ROOT}/a/../b/./c.png") == f"{ROOT}/b/c.png"
    assert canonical(f"{ROOT}/a/..") == ROOT
    assert canonical(f"{ROOT}/a//b.png") == f"{ROOT}/a//b.png"
    with pytest.raises(StorageError, match=r"s3://fake/\.\./other: `\.\.` leads out of the bucket"):
        canonical(f"{ROOT}/../other")


def test_pages_follow_one_another_and_each_is_asked_for_once(fake: FakeS3) -> None:
    fake.page_size = 10
    names = [f"p/{number:03d}.png" for number in range(35)]
    for name in names:
        fake.put(name, b"x")
    found = list_objects(f"{ROOT}/p")
    before = len([line for line in fake.requests if "list-type=2" in line])
    assert before == 0
    assert next(found).uri == f"{ROOT}/{names[0]}"
    assert len([line for line in fake.requests if "encoding-type" in line]) == 1  # a page in memory
    assert [info.uri for info in found] == [f"{ROOT}/{name}" for name in names[1:]]
    assert len([line for line in fake.requests if "encoding-type" in line]) == 4


def test_a_public_bucket_needs_no_keys(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    forget_clients()
    fake.put("p//a.png", b"x")
    [info] = list_objects(f"{ROOT}/p")
    assert read_bytes(info.uri) == b"x"
