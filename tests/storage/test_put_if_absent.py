"""A store that replaces what was to be created only once is found out before a run begins."""

from __future__ import annotations

import time
from pathlib import Path

import fsspec
import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.errors import StorageError
from raysvq.storage import join, list_objects, local, require_put_if_absent, write_bytes


def test_a_store_that_creates_a_file_once_passes_and_is_left_as_it_was(place: str) -> None:
    write_bytes(join(place, "a.png"), b"x")
    require_put_if_absent(join(place, "not", "there"))
    require_put_if_absent(place)
    assert [info.uri for info in list_objects(place)] == [join(place, "a.png")]


def test_a_bucket_that_ignores_if_none_match_is_refused(fake: FakeS3) -> None:
    fake.ignores_if_none_match = True
    with pytest.raises(StorageError, match=r"^s3://fake/out: the store replaces .*two runs could both"):
        require_put_if_absent(f"s3://{BUCKET}/out")
    assert not fake.objects


def test_a_bucket_that_does_not_know_if_none_match_is_refused_at_once(fake: FakeS3) -> None:
    fake.refuses_if_none_match = True
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot write s3://fake/out/.*501 Not Implemented"):
        require_put_if_absent(f"s3://{BUCKET}/out")
    assert time.monotonic() - started < 1.5
    assert not fake.objects


def test_a_file_system_that_replaces_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "create", lambda path, content: Path(path).write_bytes(content) > 0)
    with pytest.raises(StorageError, match="does not honour put-if-absent"):
        require_put_if_absent(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_another_store_is_checked_through_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    require_put_if_absent("memory://absent/out")
    memory = type(fsspec.filesystem("memory"))
    pipe = memory.pipe_file
    monkeypatch.setattr(memory, "pipe_file", lambda fs, path, value, mode="overwrite": pipe(fs, path, value))
    with pytest.raises(StorageError, match="does not honour put-if-absent"):
        require_put_if_absent("memory://absent/out")
    assert not fsspec.filesystem("memory").find("/absent")
