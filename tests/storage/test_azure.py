"""Azure's containers: named as their own tools name them, and kept to the promises of any bucket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from obstore.store import MemoryStore

from raysvq.errors import StorageError
from raysvq.settings import StorageSettings
from raysvq.storage import clients, create_file, exists, list_objects, read_bytes, remove_file, write_bytes
from tests.storage.clients import fresh_clients


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "plant")
    with fresh_clients(StorageSettings(retry_s=0)):
        yield


@pytest.mark.parametrize(
    ("uri", "account"),
    [
        ("az://images/a/b.png", "plant"),
        ("abfs://images/a/b.png", "plant"),
        ("abfss://images@other.dfs.core.windows.net/a/b.png", "other"),
    ],
)
def test_a_container_is_opened_in_its_account(uri: str, account: str) -> None:
    store, path = clients.store_of(uri)
    assert path == "a/b.png"
    assert store.client.config == {"account_name": account, "container_name": "images"}  # type: ignore[attr-defined]
    assert f'account_name="{account}"' in repr(store)


def test_an_account_that_nobody_names_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(StorageError, match=r"cannot read az://images/a: .*[Aa]ccount"):
        exists("az://images/a")


def test_containers_keep_the_promises_of_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    container = MemoryStore()
    monkeypatch.setattr(clients, "AzureStore", lambda *_, **__: container)
    write_bytes("az://images/p/a #1.png", b"x")
    assert (create_file("az://images/p/b", b"1"), create_file("az://images/p/b", b"2")) == (True, False)
    assert read_bytes("az://images/p/b") == b"1"
    infos = list(list_objects("az://images/p"))
    assert [info.uri for info in infos] == ["az://images/p/a #1.png", "az://images/p/b"]
    assert all(info.etag for info in infos)
    for uri in [info.uri for info in infos]:
        remove_file(uri)
    assert not exists("az://images/p")
