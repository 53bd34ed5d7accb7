"""A store that is overloaded, restarts, breaks off or refuses: what comes through, and what does not."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from devtools.faulty_store import FaultyStore, faulty_store
from raysvq.errors import RaysvqError, StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import (
    clients,
    configure,
    create_file,
    exists,
    file_infos,
    filesystem,
    join,
    list_objects,
    put_file,
    read_bytes,
    remove_file,
    write_bytes,
)
from raysvq.storage import retry as patience

CONTENT = bytes(range(256)) * 200
RETRY_S = 3.0


@pytest.fixture(scope="module")
def proxy(s3: str) -> Iterator[FaultyStore]:
    with faulty_store(os.environ["AWS_ENDPOINT_URL"]) as store:
        yield store


@pytest.fixture
def store(s3: str, proxy: FaultyStore, new_clients: Callable[[], None]) -> Iterator[FaultyStore]:
    """The faulty store, which has answered once; clients go through it."""
    configure(StorageSettings(endpoint_url=proxy.endpoint, retry_s=RETRY_S))
    assert not exists(join(s3, "never"))
    proxy.forget()
    yield proxy
    proxy.forget()


@pytest.fixture
def folder(s3: str, store: FaultyStore) -> str:
    """A folder with two files, by way of the faulty store."""
    uri = join(s3, uuid.uuid4().hex)
    for name in ("a.bin", "b.bin"):
        write_bytes(join(uri, name), CONTENT)
    store.forget()
    return uri


def _read(folder: str) -> None:
    assert read_bytes(join(folder, "a.bin")) == CONTENT


def _write(folder: str) -> None:
    write_bytes(join(folder, "new.bin"), CONTENT[::-1])
    assert read_bytes(join(folder, "new.bin")) == CONTENT[::-1]


def _put(folder: str) -> None:
    put_file(Path(__file__), join(folder, "new.py"))
    assert read_bytes(join(folder, "new.py")) == Path(__file__).read_bytes()


def _list(folder: str) -> None:
    assert [info.size_bytes for info in list_objects(folder)] == [len(CONTENT)] * 2


def _create(folder: str) -> None:
    assert create_file(join(folder, "lease.json"), b"mine")
    assert not create_file(join(folder, "lease.json"), b"yours")
    assert read_bytes(join(folder, "lease.json")) == b"mine"


def _infos(folder: str) -> None:
    found = file_infos([join(folder, name) for name in ("a.bin", "none.bin", "b.bin")])
    assert [info and info.size_bytes for info in found] == [len(CONTENT), None, len(CONTENT)]


OPERATIONS = [_read, _write, _put, _list, _create, _infos]
FAULTS: dict[str, Callable[[FaultyStore], None]] = {
    "slow down": lambda store: store.answer(503, "SlowDown", times=3),
    "internal error": lambda store: store.answer(500, "InternalError", times=2),
    "reset": lambda store: store.reset(times=2),
    "lost answer": lambda store: store.lose_answer(),
    "cut body": lambda store: store.cut(times=2),
    "refused": lambda store: store.refuse(1.0),
    "late": lambda store: store.delay(0.3),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_by_is_survived(
    store: FaultyStore, folder: str, operation: Callable[[str], None], fault: str
) -> None:
    FAULTS[fault](store)
    operation(folder)


@pytest.mark.parametrize("operation", [_read, _write, _list])
def test_an_answer_that_does_not_come_is_not_waited_for(
    store: FaultyStore, folder: str, operation: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "READ_S", 0.5)
    configure(StorageSettings(endpoint_url=store.endpoint, retry_s=RETRY_S + 1))
    assert not exists(join(folder, "never"))
    store.delay(6)
    started = time.monotonic()
    operation(folder)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refusal_is_told_at_once(store: FaultyStore, folder: str, operation: Callable[[str], None]) -> None:
    store.answer(403, "AccessDenied", times=9)
    started = time.monotonic()
    with pytest.raises(OSError, match="permission denied"):
        operation(folder)
    assert time.monotonic() - started < 1


def test_a_file_that_is_not_there_is_asked_for_once(store: FaultyStore, folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(join(folder, "none.bin"))
    assert store.requests == ["GET"]


def test_reading_takes_one_request(store: FaultyStore, folder: str) -> None:
    _read(folder)
    assert store.requests == ["GET"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_patience_ends(store: FaultyStore, folder: str, operation: Callable[[str], None]) -> None:
    configure(StorageSettings(endpoint_url=store.endpoint, retry_s=1.0))
    exists(folder)
    store.answer(503, "SlowDown", times=1000)
    started = time.monotonic()
    with pytest.raises(StorageError, match=rf"cannot \w+ {folder}.*503 Service Unavailable") as failure:
        operation(folder)
    assert isinstance(failure.value, OSError)
    assert isinstance(failure.value, RaysvqError)
    assert time.monotonic() - started < 2


def test_a_store_that_never_answered_is_given_up_soon(
    s3: str, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_CONTACT_S", 1.0)
    configure(StorageSettings(endpoint_url="http://127.0.0.1:9", retry_s=600))
    for call in (read_bytes, exists, filesystem):
        started = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot read s3://.*[Cc]onnection refused"):
            call(join(s3, "a.bin"))
        assert time.monotonic() - started < 2


def test_waiting_is_said_once_an_outage_and_says_no_secret(
    store: FaultyStore, folder: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patience, "WARN_AFTER_S", 0.4)
    uris = [join(folder, "a.bin")] * 8
    for _ in range(2):
        store.refuse(1.2)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read_bytes, uris)) == [CONTENT] * 8
    said = capfd.readouterr().err
    assert 2 <= said.count("waiting for ") <= 4  # of 16 that waited
    assert f"waiting for {uris[0]}: " in said
    assert "onnection refused" in said
    assert "raysvq-secret-key" not in said
    assert "raysvq-access-key" not in said


def test_a_short_hiccup_is_not_worth_a_word(
    store: FaultyStore, folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store.reset(times=2)
    _read(folder)
    assert capfd.readouterr().err == ""


def test_another_process_s_file_stays_another_s_after_a_lost_answer(store: FaultyStore, folder: str) -> None:
    write_bytes(join(folder, "lease.json"), b"theirs")
    store.lose_answer()
    assert not create_file(join(folder, "lease.json"), b"mine")
    assert read_bytes(join(folder, "lease.json")) == b"theirs"


def test_what_is_gone_after_a_lost_answer_is_removed(store: FaultyStore, folder: str) -> None:
    store.lose_answer()
    remove_file(join(folder, "a.bin"))
    assert not exists(join(folder, "a.bin"))


def test_parquet_is_read_through_an_overload(store: FaultyStore, folder: str) -> None:
    uri = join(folder, "table.parquet")
    fs, path = filesystem(uri)
    pq.write_table(pa.table({"x": [1, 2]}), path, filesystem=fs)
    store.answer(503, "SlowDown")
    assert pq.read_table(path, filesystem=fs)["x"].to_pylist() == [1, 2]


def test_many_files_are_asked_for_at_once(store: FaultyStore, folder: str) -> None:
    store.delay(0.25, times=32)
    started = time.monotonic()
    assert not any(file_infos([join(folder, f"none-{number}") for number in range(32)]))
    assert time.monotonic() - started < 3


def test_a_refusal_is_left_to_arrow_to_tell(s3: str, store: FaultyStore) -> None:
    configure(StorageSettings(endpoint_url=store.endpoint, retry_s=RETRY_S + 1))  # nothing answered it yet
    store.answer(403, "AccessDenied", times=9)
    fs, path = filesystem(join(s3, "manifest.parquet"))
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        fs.open_input_file(path)
