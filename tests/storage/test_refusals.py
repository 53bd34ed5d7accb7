"""Buckets that are not there, keys that open nothing, profiles, unknown stores."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.fake_s3 import BUCKET, FakeS3
from raysvq.errors import SettingsError, StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import (
    configure,
    create_file,
    exists,
    file_infos,
    forget_clients,
    is_folder,
    join,
    list_objects,
    put_file,
    read_bytes,
    remove_folder,
    require_writable,
    write_bytes,
)


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


def test_a_profile_is_read_by_obstore_and_its_keys_reach_the_store(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = "aws_access_key_id = of-the-plant\naws_secret_access_key = s\naws_session_token = its-token\n"
    (tmp_path / "credentials").write_text(f"[plant]\n{keys}")
    (tmp_path / "config").write_text(f"[profile plant]\nregion = eu-west-1\nendpoint_url = {fake.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "plant")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    forget_clients()
    fake.put("p/a.png", b"x")
    assert read_bytes(f"s3://{BUCKET}/p/a.png") == b"x"
    assert [info.size_bytes for info in list_objects(f"s3://{BUCKET}/p")] == [1]
    assert set(fake.tokens) == {"its-token"}
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    forget_clients()
    for look in (read_bytes, exists):
        with pytest.raises(
            SettingsError, match=r"^AWS_PROFILE is 'nobody', which stands in no file of ~/.aws"
        ):
            look(f"s3://{BUCKET}/p/a.png")


def test_a_store_without_a_client_is_named() -> None:
    with pytest.raises(StorageError, match="no storage client for nosuch://"):
        list(list_objects("nosuch://bucket/a"))
    with pytest.raises(StorageError, match="no storage client for nosuch://"):
        read_bytes("nosuch://bucket/a")
