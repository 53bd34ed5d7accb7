"""Clients that tests open under settings of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raysvq import storage
from raysvq.settings import StorageSettings


@contextmanager
def fresh_clients(settings: StorageSettings) -> Iterator[None]:
    """Make new clients under these settings and the environment as it is, and go back to the defaults."""
    storage.configure(settings)
    storage.forget_clients()
    yield
    storage.configure(StorageSettings())
    storage.forget_clients()
