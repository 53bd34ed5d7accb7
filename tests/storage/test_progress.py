"""What takes longer than `storage.retry_s` as a whole is tried again page by page and part by part."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from devtools.faulty_store import Fault, FaultyStore, faulty_store
from raysvq import storage
from raysvq.errors import StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import (
    ChangedError,
    bucket,
    list_objects,
    put_file,
    read_bytes,
    read_version,
    s3,
    write_bytes,
)

ROOT = f"s3://{BUCKET}"
LARGE = bytes(range(251)) * 33_000  # 8 MB
RETRY_S = 0.8


@pytest.fixture
def link(fake: FakeS3) -> Iterator[FaultyStore]:
    """What lies between the clients and the store."""
    with faulty_store(fake.endpoint) as link:
        storage.configure(StorageSettings(endpoint_url=link.endpoint, retry_s=RETRY_S))
        assert not storage.exists(f"{ROOT}/never")
        fake.requests.clear()
        link.forget()
        yield link


def _every(count: int, fault: Fault) -> Callable[[str, str], Fault | None]:
    """A fault for each so many listings."""
    numbers = itertools.count(1)
    return lambda _, target: fault if "list-type=2" in target and next(numbers) % count == 0 else None


def test_a_long_listing_survives_a_fault_on_every_third_page(fake: FakeS3, link: FaultyStore) -> None:
    fake.page_size = 10
    names = [f"{ROOT}/p/{number:04d}.png" for number in range(200)]
    for name in names:
        fake.put(name.removeprefix(f"{ROOT}/"), b"x")
    link.rule = _every(3, lambda handler: handler.answer(503, "SlowDown"))
    started = time.monotonic()
    found = []
    for info in list_objects(f"{ROOT}/p"):
        found.append(info.uri)
        time.sleep(0.006)
    assert found == names
    assert time.monotonic() - started > RETRY_S


def test_a_page_that_never_comes_ends_the_listing(fake: FakeS3, link: FaultyStore) -> None:
    fake.page_size = 10
    for number in range(30):
        fake.put(f"p/{number:04d}.png", b"x")
    found = list_objects(f"{ROOT}/p")
    next(found)
    link.answer(503, "SlowDown", times=1000)
    started = time.monotonic()
    with pytest.raises(
        StorageError, match="cannot list s3://fake/p: the store answered 503 Service Unavailable"
    ):
        list(found)
    assert time.monotonic() - started < 2 * RETRY_S + 1


def test_a_store_that_repeats_a_page_is_not_followed_for_ever(fake: FakeS3) -> None:
    fake.repeats_pages = True
    fake.put("p/a.png", b"x")
    with pytest.raises(StorageError, match="without the way to the next one"):
        list(list_objects(f"{ROOT}/p"))


@pytest.mark.parametrize("key", ["large.tif", "odd//large.tif"])
def test_a_download_goes_on_where_the_link_broke(fake: FakeS3, link: FaultyStore, key: str) -> None:
    fake.put(key, LARGE)
    for _ in range(3):
        link.reset_after(2_500_000)
        link.answer(503, "SlowDown", times=2)
    assert read_bytes(f"{ROOT}/{key}") == LARGE
    starts = [int(line.rpartition("bytes=")[2].rstrip("-")) for line in fake.requests if "bytes=" in line]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[0] >= 2**20
    assert starts[2] >= 3 * 2**20


def test_a_link_that_brings_nothing_is_given_up(fake: FakeS3, link: FaultyStore) -> None:
    fake.put("large.tif", LARGE)
    link.reset_after(3_000_000)
    link.reset_after(0, times=1000)
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot read s3://fake/large\.tif"):
        read_bytes(f"{ROOT}/large.tif")
    assert time.monotonic() - started < 2 * RETRY_S + 1


@pytest.mark.parametrize("if_match", ["heeded", "ignored"])
@pytest.mark.parametrize("etag", ['"{}"', 'W/"{}"'])
def test_no_content_is_mixed_of_two_versions(
    fake: FakeS3, link: FaultyStore, etag: str, if_match: str
) -> None:
    fake.ignores_if_match = if_match == "ignored"
    fake.put("large.tif", LARGE, etag.format("one"))
    [info] = list_objects(f"{ROOT}/large.tif")

    def replace_and_break(handler: object) -> None:
        handler.break_off(3_000_000)  # type: ignore[attr-defined]
        fake.put("large.tif", LARGE[::-1], etag.format("two"))

    link._faults.append(replace_and_break)
    assert read_bytes(f"{ROOT}/large.tif") == LARGE[::-1]
    fake.put("large.tif", LARGE, etag.format("one"))
    link._faults.append(replace_and_break)
    with pytest.raises(ChangedError, match=r"replaced while it was read|when indexed"):
        read_version(info.uri, info.size_bytes, info.etag, info.mtime)


def test_what_is_replaced_again_and_again_is_given_up(fake: FakeS3, link: FaultyStore) -> None:
    versions = itertools.count()

    def replace_and_break(handler: object) -> None:
        handler.break_off(3_000_000)  # type: ignore[attr-defined]
        fake.put("large.tif", LARGE, f'"{next(versions)}"')

    fake.put("large.tif", LARGE)
    link._faults.extend([replace_and_break] * 1000)
    with pytest.raises(StorageError, match="replaced while it was read"):
        read_bytes(f"{ROOT}/large.tif")


@pytest.mark.parametrize("source", ["bytes", "file"])
def test_a_part_that_fails_is_sent_again_alone(
    fake: FakeS3, link: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(s3, "LARGE", 1_000_000)
    monkeypatch.setattr(bucket, "LARGE", 1_000_000)
    monkeypatch.setattr(s3, "PARTS_AT_ONCE", 1)
    numbers = itertools.count(1)

    def rule(_: str, target: str) -> Fault | None:
        failing = "partNumber" in target and next(numbers) % 3 == 0
        return (lambda handler: handler.answer(503, "SlowDown")) if failing else None

    link.rule = rule
    if source == "bytes":
        write_bytes(f"{ROOT}/large.tif", LARGE)
    else:
        (tmp_path / "large.tif").write_bytes(LARGE)
        put_file(tmp_path / "large.tif", f"{ROOT}/large.tif")
    assert fake.objects["large.tif"].content == LARGE
    sent = [
        line.partition("partNumber=")[2].partition("&")[0] for line in fake.requests if "partNumber" in line
    ]
    assert sorted(map(int, sent)) == list(range(1, 10))  # those that failed did not reach the store
    assert not fake.uploads


def test_a_lost_answer_to_the_end_of_an_upload_is_no_failure(
    fake: FakeS3, link: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "LARGE", 1_000_000)
    done = itertools.count()

    def rule(method: str, target: str) -> Fault | None:
        ends = method == "POST" and "uploadId" in target and next(done) == 0
        return (lambda handler: handler.lose_answer()) if ends else None

    link.rule = rule
    write_bytes(f"{ROOT}/large.tif", LARGE)
    assert fake.objects["large.tif"].content == LARGE


def test_an_upload_that_is_refused_leaves_no_parts(
    fake: FakeS3, link: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "LARGE", 1_000_000)
    monkeypatch.setattr(s3, "LARGE", 1_000_000)
    refused: Fault = lambda handler: handler.answer(403, "AccessDenied")  # noqa: E731
    link.rule = lambda _, target: refused if "partNumber=3" in target else None
    with pytest.raises(StorageError, match=r"cannot write s3://fake/large\.tif: permission denied"):
        write_bytes(f"{ROOT}/large.tif", LARGE)
    assert not fake.uploads
    assert not fake.objects


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "ExpiredToken", "permission denied"),
        (403, "InvalidAccessKeyId", "permission denied"),
        (400, "AuthorizationHeaderMalformed", "the bucket is in another region; set storage.region"),
        (400, "InvalidArgument", "the store answered 400 Bad Request"),
        (400, "RequestTimeout", None),
        (429, "TooManyRequests", None),
        (409, "OperationAborted", None),
    ],
)
@pytest.mark.parametrize("call", [read_bytes, lambda uri: list(list_objects(uri))], ids=["read", "list"])
def test_answers_are_of_one_kind_whichever_client_gets_them(
    fake: FakeS3,
    link: FaultyStore,
    status: int,
    code: str,
    expected: str | None,
    call: Callable[[str], object],
) -> None:
    fake.put("p/a.png", b"x")
    left = itertools.count() if expected is None else itertools.repeat(0)

    def rule(method: str, _: str) -> Fault | None:
        failing = method == "GET" and next(left) < 2  # an answer to HEAD has no code
        return (lambda handler: handler.answer(status, code)) if failing else None

    link.rule = rule
    uri = f"{ROOT}/p/a.png" if call is read_bytes else f"{ROOT}/p"
    if expected is None:
        assert call(uri)
        return
    with pytest.raises(OSError, match=expected):
        call(uri)
