"""The same promises on local disk and on a real S3 server."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from raysvq.errors import StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import (
    canonical,
    configure,
    create_file,
    exists,
    file_infos,
    filesystem,
    image_id,
    is_folder,
    join,
    list_objects,
    put_file,
    read_bytes,
    remove_folder,
    require_writable,
    write_bytes,
)

ODD_NAMES = [
    "two words.png",
    " leading and trailing .png ",
    "größe-画像-🔩.png",
    "part#7.png",
    "what?.png",
    "100%.png",
    "a%20b.png",
    "a+b&c=d;e,f.png",
    "[x]{y}*!'\"~.png",
]


@contextmanager
def _disk_full_after(size: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write_whole(local: Path, uri: str) -> None:
    write_bytes(uri, local.read_bytes())


def _names(prefix: str) -> list[str]:
    return [info.uri.removeprefix(prefix + "/") for info in list_objects(prefix)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/images/", "/data/images"),
        ("/data/./a/../images", "/data/images"),
        ("file:///data/images", "/data/images"),
        ("FILE:///data/images", "/data/images"),
        ("s3://bucket/images/", "s3://bucket/images"),
        ("s3://bucket/a b#c?d%20e", "s3://bucket/a b#c?d%20e"),
        ("S3://Bucket/Images", "s3://Bucket/Images"),
        ("gs://bucket/x", "gs://bucket/x"),
    ],
)
def test_canonical_is_the_one_spelling(given: str, expected: str) -> None:
    assert canonical(given) == expected
    assert canonical(canonical(given)) == expected


def test_canonical_resolves_against_folder_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert canonical("a/b.png") == str(tmp_path / "a/b.png")
    assert canonical(Path("a")) == str(tmp_path / "a")
    assert canonical("~/a") == "/home/someone/a"


def test_join_takes_no_account_of_a_trailing_slash() -> None:
    assert join("s3://bucket/a/", "b", "c d#.png") == "s3://bucket/a/b/c d#.png"
    assert join("/data", "x") == "/data/x"


def test_image_id_depends_on_the_uri_alone() -> None:
    assert image_id("s3://b/größe.png") == image_id("s3://b/größe.png")
    assert image_id("s3://b/a.png") != image_id("s3://b/b.png")
    assert len(image_id("x")) == 32
    assert int(image_id("x"), 16) < 2**128


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_taken_literally(place: str, name: str, tmp_path: Path) -> None:
    uri = join(place, name)
    write_bytes(uri, b"first")
    assert read_bytes(uri) == b"first"
    (tmp_path / "local").write_bytes(b"second")
    put_file(tmp_path / "local", uri)
    assert read_bytes(uri) == b"second"
    assert [info.uri for info in list_objects(place)] == [uri]
    assert [info.uri for info in list_objects(uri)] == [uri]
    assert exists(uri)
    assert not is_folder(uri)
    [info] = file_infos([uri])
    assert info is not None
    assert info.size_bytes == 6


def test_neighbours_that_differ_only_in_escapes_stay_apart(place: str) -> None:
    for name in ("a b.png", "a%20b.png", "a+b.png"):
        write_bytes(join(place, name), name.encode())
    assert {name: read_bytes(join(place, name)).decode() for name in _names(place)} == {
        "a b.png": "a b.png",
        "a%20b.png": "a%20b.png",
        "a+b.png": "a+b.png",
    }


@pytest.mark.parametrize("size", [0, 1, 70_000, 12_000_000])
def test_content_of_any_size_comes_back(place: str, size: int, tmp_path: Path) -> None:
    content = bytes(range(251)) * (size // 251) + bytes(size % 251)
    local = tmp_path / "local.bin"
    local.write_bytes(content)
    write_bytes(join(place, "written"), content)
    put_file(local, join(place, "put"))
    assert read_bytes(join(place, "written")) == content
    assert read_bytes(join(place, "put")) == content
    assert [info.size_bytes for info in list_objects(place)] == [size, size]


def test_listing_is_sorted_within_each_folder_and_goes_deep(place: str) -> None:
    names = ["b.png", "c/10.png", "ä.png", "a/z.png", "c/2.png", "a.png", "c/d/e/x.png", "A.png"]
    for name in names:
        write_bytes(join(place, name), b"x")
    expected = ["A.png", "a/z.png", "a.png", "b.png", "c/10.png", "c/2.png", "c/d/e/x.png", "ä.png"]
    assert _names(place) == expected
    assert _names(join(place, "c")) == ["10.png", "2.png", "d/e/x.png"]


def test_a_prefix_is_a_folder_not_the_start_of_a_name(place: str) -> None:
    for name in ("run/1.png", "run-2/1.png", "runner.png"):
        write_bytes(join(place, name), b"x")
    assert _names(join(place, "run")) == ["1.png"]


def test_listing_tells_size_and_time(place: str) -> None:
    write_bytes(join(place, "a.png"), b"12345")
    [info] = list_objects(place)
    assert info.size_bytes == 5
    assert info.mtime is not None
    assert abs(info.mtime - datetime.now(UTC)) < timedelta(minutes=5)
    assert (info.etag is not None) == place.startswith("s3://")


def test_another_content_has_another_etag(s3: str) -> None:
    uri = join(s3, "etag", "a.png")
    etags = []
    for content in (b"one", b"two"):
        write_bytes(uri, content)
        etags += [info.etag for info in list_objects(uri)]
    assert len(set(etags)) == 2
    assert all(etag and '"' not in etag for etag in etags)


def test_file_infos_answer_in_order_and_none_where_no_file_is(place: str) -> None:
    write_bytes(join(place, "a/1.png"), b"1")
    write_bytes(join(place, "a/22.png"), b"22")
    uris = [join(place, name) for name in ("a/22.png", "missing.png", "a", "a/1.png", "a/22.png")]
    infos = file_infos(uris)
    assert [info and info.size_bytes for info in infos] == [2, None, None, 1, 2]
    assert [info and info.uri for info in infos] == [uris[0], None, None, uris[3], uris[0]]
    assert all(info.mtime for info in infos if info)


def test_file_infos_of_several_stores_at_once(s3: str, tmp_path: Path) -> None:
    here, there = str(tmp_path / "here.png"), join(s3, "mixed", "there.png")
    write_bytes(here, b"1")
    write_bytes(there, b"22")
    assert [info and info.size_bytes for info in file_infos([there, here])] == [2, 1]


def test_no_uris_no_infos() -> None:
    assert file_infos([]) == []


def test_a_path_no_file_can_have_does_not_take_its_neighbours_along(place: str) -> None:
    write_bytes(join(place, "good.png"), b"1")
    bad = join(place, "nul\0byte.png") if not place.startswith("s3://") else place + "//doubled.png"
    infos = file_infos([bad, join(place, "good.png"), bad])
    assert [info is not None for info in infos] == [False, True, False]
    with pytest.raises(OSError, match=r"null byte|empty path"):
        read_bytes(bad)
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(bad, b"")


def test_folders_and_files_are_told_apart(place: str) -> None:
    write_bytes(join(place, "folder", "file.png"), b"x")
    assert is_folder(place)
    assert is_folder(join(place, "folder"))
    assert not is_folder(join(place, "folder", "file.png"))
    assert exists(join(place, "folder"))
    assert not exists(join(place, "nowhere"))


def test_a_missing_path_is_named(place: str) -> None:
    missing = join(place, "nowhere", "x")
    for look in (is_folder, lambda uri: list(list_objects(uri))):
        with pytest.raises(StorageError) as failure:
            look(missing)
        assert str(failure.value) == f"cannot read {missing}: no such file, folder or bucket"
    with pytest.raises(FileNotFoundError):
        read_bytes(missing)


def test_a_removed_folder_is_gone_and_its_neighbour_is_not(place: str) -> None:
    for name in ("gone/a.png", "gone/b/c.png", "gone-not/a.png"):
        write_bytes(join(place, name), b"x")
    remove_folder(join(place, "gone"))
    assert not exists(join(place, "gone"))
    assert _names(place) == ["gone-not/a.png"]
    with pytest.raises(StorageError, match="cannot remove"):
        remove_folder(join(place, "gone"))


def test_a_writable_folder_is_left_as_it_was(place: str) -> None:
    write_bytes(join(place, "a.png"), b"x")
    require_writable(place)
    assert _names(place) == ["a.png"]


def test_readers_see_the_old_or_the_new_content_only(place: str) -> None:
    uri, contents = join(place, "state.bin"), [bytes([value]) * 300_000 for value in range(2)]
    write_bytes(uri, contents[0])

    def write() -> None:
        for turn in range(25):
            write_bytes(uri, contents[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while writer.is_alive() or len(seen) < 3:
        seen.append(read_bytes(uri))
    assert all(content in contents for content in seen)
    assert read_bytes(uri) == contents[0]


@pytest.mark.parametrize("write", [put_file, _write_whole])
@pytest.mark.parametrize("before", [b"the old content", None], ids=["replaced", "new"])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, write: Callable[[Path, str], None], before: bytes | None
) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "place" / "target.bin"
    source.write_bytes(b"new" * 50_000)
    target.parent.mkdir()
    if before is not None:
        target.write_bytes(before)
    with (
        _disk_full_after(20_000),
        pytest.raises(StorageError, match=r"cannot write .*target\.bin: File too large"),
    ):
        write(source, str(target))
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == (
        {"target.bin": before} if before is not None else {}
    )


@pytest.mark.parametrize("folder", ["/proc/nowhere", "a regular file"])
def test_a_place_that_takes_no_files_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a regular file").write_bytes(b"")
    target = join(folder if folder.startswith("/") else str(tmp_path / folder), "below")
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(StorageError, match=rf"cannot write {target}/x: \w+"):
        write_bytes(join(target, "x"), b"x")
    with pytest.raises(StorageError, match=f"cannot write {target}/x"):
        put_file(tmp_path / "source", join(target, "x"))
    with pytest.raises(StorageError, match="cannot write"):
        require_writable(target)
    with pytest.raises(StorageError, match="no such file, folder or bucket"):
        is_folder(target)


def test_a_very_long_name_can_be_written(tmp_path: Path) -> None:
    uri = str(tmp_path / ("n" * 251 + ".png"))
    write_bytes(uri, b"x")
    assert read_bytes(uri) == b"x"


def test_a_missing_bucket_is_a_sentence(s3: str, tmp_path: Path) -> None:
    uri = "s3://raysvq-no-such-bucket/a/b.png"
    for look in (is_folder, lambda name: list(list_objects(name))):
        with pytest.raises(StorageError) as failure:
            look(uri)
        assert str(failure.value) == f"cannot read {uri}: no such file, folder or bucket"
    with pytest.raises(StorageError, match=r"cannot write s3://raysvq-no-such-bucket.*: no such .* bucket"):
        write_bytes(uri, b"x")
    (tmp_path / "local").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"cannot write s3://raysvq-no-such-bucket.*: no such .* bucket"):
        put_file(tmp_path / "local", uri)
    assert file_infos([uri]) == [None]
    assert not exists(uri)


@pytest.mark.parametrize("wrong", ["key", "secret", "both missing"])
def test_wrong_credentials_are_a_sentence(
    s3: str, wrong: str, monkeypatch: pytest.MonkeyPatch, new_clients: Callable[[], None]
) -> None:
    uri = join(s3, "guarded", "a.png")
    write_bytes(uri, b"x")
    if wrong == "both missing":
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        configure(StorageSettings(retry_s=0))  # look for a role of the machine once
    else:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID" if wrong == "key" else "AWS_SECRET_ACCESS_KEY", "wrong")
    new_clients()
    calls: list[Callable[[], object]] = [
        lambda: list(list_objects(join(s3, "guarded"))),
        lambda: is_folder(uri),
        lambda: exists(uri),
        lambda: file_infos([uri]),
        lambda: write_bytes(uri, b"y"),
        lambda: remove_folder(join(s3, "guarded")),
        lambda: require_writable(s3),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=f"cannot (read|write|list|remove) {s3}") as failure:
            call()
        assert "\n" not in str(failure.value)
    with pytest.raises(OSError, match=r"permission denied|no credentials"):
        read_bytes(uri)


def test_a_profile_opens_the_store(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_clients: Callable[[], None]
) -> None:
    lines = [
        f"{name.lower()} = {os.environ[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    (tmp_path / "credentials").write_text("\n".join(["[plant]", *lines]))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "plant")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    new_clients()
    uri = join(s3, "profile", "a #1.png")
    write_bytes(uri, b"x")
    assert read_bytes(uri) == b"x"
    assert (create_file(uri, b"y"), create_file(join(s3, "profile", "b"), b"y")) == (False, True)
    assert [info.uri for info in list_objects(join(s3, "profile"))] == [uri, join(s3, "profile", "b")]
    assert (exists(uri), is_folder(join(s3, "profile"))) == (True, True)
    remove_folder(join(s3, "profile"))
    assert not exists(uri)


def test_a_store_without_a_client_is_named() -> None:
    with pytest.raises(StorageError, match="no storage client for nosuch://"):
        list(list_objects("nosuch://bucket/a"))
    with pytest.raises(StorageError, match="no storage client for nosuch://"):
        read_bytes("nosuch://bucket/a")


def test_a_folder_without_a_name_ends_the_listing() -> None:
    write_bytes("memory://nameless/a/1.png", b"x")
    store = fsspec.filesystem("memory").store
    store["/nameless/a//2.png"] = store["/nameless/a/1.png"]
    with pytest.raises(StorageError, match="is a folder without a name"):
        list(list_objects("memory://nameless"))


def test_any_other_store_works_through_its_client() -> None:
    write_bytes("memory://fleet/a/1.png", b"one")
    assert read_bytes("memory://fleet/a/1.png") == b"one"
    assert is_folder("memory://fleet/a")
    assert [
        info and info.size_bytes for info in file_infos(["memory://fleet/a/1.png", "memory://fleet/no"])
    ] == [
        3,
        None,
    ]


def test_a_folder_that_need_not_be_there_is_empty(place: str) -> None:
    assert list(list_objects(join(place, "nowhere"), must_exist=False)) == []
    write_bytes(join(place, "there", "a.png"), b"x")
    assert len(list(list_objects(join(place, "there"), must_exist=False))) == 1


def test_a_folder_marker_is_no_file(s3: str) -> None:
    fs, path = filesystem(join(s3, "marked"))
    fs.create_dir(f"{path}/inner")
    write_bytes(join(s3, "marked", "inner", "a.png"), b"x")
    assert is_folder(join(s3, "marked", "inner"))
    assert _names(join(s3, "marked")) == ["inner/a.png"]
