"""A listing of 50,000 keys from a store that answers every tenth page with 503."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from pathlib import Path

import obstore
from obstore.store import S3Store

from benchmarks.night.outcome import Outcome
from devtools.faulty_store import Fault, faulty_store
from devtools.s3_server import BUCKET, s3_server
from raysvq import storage
from raysvq.settings import StorageSettings

KEYS = 50_000
AT_ONCE = 64  # puts
RETRY_S = 2.0  # less than all pages take


def list_with_faults(folder: Path, keys: int = KEYS) -> Outcome:
    """Every key is listed once, and none is lost."""
    outcome = Outcome("listing")
    with s3_server(folder / "s3") as server, faulty_store(server.environment["AWS_ENDPOINT_URL"]) as link:
        os.environ |= server.environment
        names = [f"images/{number:06d}.png" for number in range(keys)]
        started = time.monotonic()
        asyncio.run(_put(server.environment, names))
        outcome.figures["s to put the keys"] = round(time.monotonic() - started, 1)
        numbers = itertools.count(1)

        def rule(_: str, target: str) -> Fault | None:
            tenth = "list-type=2" in target and next(numbers) % 10 == 0
            return (lambda handler: handler.answer(503, "SlowDown")) if tenth else None

        link.rule = rule
        storage.configure(StorageSettings(endpoint_url=link.endpoint, retry_s=RETRY_S))
        started = time.monotonic()
        found = Counter(info.uri for info in storage.list_objects(f"s3://{BUCKET}/images"))
        outcome.seconds = time.monotonic() - started
    wanted = {f"s3://{BUCKET}/{name}" for name in names}
    lost, twice = len(wanted - found.keys()), found.total() - len(found)
    faults = (next(numbers) - 1) // 10
    outcome.figures |= {"keys": len(found), "pages answered with 503": faults, "lost": lost, "twice": twice}
    outcome.require(not lost and not twice and found.keys() == wanted, "other keys than there are")
    outcome.require(faults >= keys // 10_000, "too few faults to tell")
    return outcome


async def _put(environment: dict[str, str], names: list[str]) -> None:
    store = S3Store(
        BUCKET,
        endpoint=environment["AWS_ENDPOINT_URL"],
        region=environment["AWS_REGION"],
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )
    free = asyncio.Semaphore(AT_ONCE)

    async def put(name: str) -> None:
        async with free:
            await obstore.put_async(store, name, b"x")

    await asyncio.gather(*map(put, names))
