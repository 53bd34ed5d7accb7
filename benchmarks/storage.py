"""Which S3 client is cheapest: small files and listings through pyarrow, s3fs, obstore and raysvq.storage.

Run: python -m benchmarks.storage [--json FILE]. Starts an S3 server on this machine and takes the
clients in turn, ROUNDS times; the medians are printed. CPU seconds are those of this process alone: a
scoring worker spends what the client leaves it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import obstore
import pyarrow.fs as pafs
import s3fs
from obstore.store import S3Store

from devtools.s3_server import BUCKET, REGION, s3_server
from raysvq import storage

FILES, FILE_BYTES = 2000, 50_000
OBJECTS = 5000
ROUNDS = 5
THREADS = (1, 8, 16)
KEYS = [f"read/{number:05d}.jpg" for number in range(FILES)]

LISTING = f"list {OBJECTS} objects"


def reading(threads: int) -> str:
    """The task's name."""
    return f"read {FILES} files, {threads} threads"


TASKS = [*map(reading, THREADS), LISTING]
Read = Callable[[str], bytes]
List = Callable[[], int]


def with_pyarrow(env: dict[str, str]) -> tuple[Read, List]:
    """One HEAD and one GET per file; listings carry no ETag."""
    fs = pafs.S3FileSystem(
        access_key=env["AWS_ACCESS_KEY_ID"],
        secret_key=env["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=env["AWS_ENDPOINT_URL"],
        region=REGION,
    )

    def read(key: str) -> bytes:
        with fs.open_input_file(f"{BUCKET}/{key}") as file:
            content: bytes = file.read()
        return content

    return read, lambda: len(fs.get_file_info(pafs.FileSelector(f"{BUCKET}/list")))


def with_s3fs(env: dict[str, str]) -> tuple[Read, List]:
    """Through its event loop in a thread of its own."""
    fs = s3fs.S3FileSystem(
        key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"endpoint_url": env["AWS_ENDPOINT_URL"], "region_name": REGION},
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    return lambda key: fs.cat_file(f"{BUCKET}/{key}"), lambda: len(fs.ls(f"{BUCKET}/list", detail=True))


def with_obstore(env: dict[str, str]) -> tuple[Read, List]:
    """One GET per file."""
    store = S3Store(
        BUCKET,
        access_key_id=env["AWS_ACCESS_KEY_ID"],
        secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        endpoint=env["AWS_ENDPOINT_URL"],
        region=REGION,
        client_options={"allow_http": True},
    )

    def read(key: str) -> bytes:
        return obstore.get(store, key).bytes().to_bytes()

    return read, lambda: len(obstore.list_with_delimiter(store, "list")["objects"])


def with_raysvq(env: dict[str, str]) -> tuple[Read, List]:
    """Through raysvq.storage: what obstore and botocore take, with its retries and versions."""
    os.environ |= env
    storage.forget_clients()
    return (
        lambda key: storage.read_bytes(f"s3://{BUCKET}/{key}"),
        lambda: sum(1 for _ in storage.list_objects(f"s3://{BUCKET}/list")),
    )


CLIENTS = {"pyarrow": with_pyarrow, "s3fs": with_s3fs, "obstore": with_obstore, "raysvq": with_raysvq}


def measured(work: Callable[[], int], expected: int) -> tuple[float, float]:
    """Wall and CPU seconds of one go. Raises ValueError if it did not do all of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if found != expected:
        raise ValueError(f"found {found}, expected {expected}")
    return wall, cpu


def read_all(read: Read, threads: int) -> int:
    """Bytes read."""
    with ThreadPoolExecutor(threads) as pool:
        return sum(map(len, pool.map(read, KEYS)))


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder) / "s3") as server:
        env = server.environment
        _fill(env)
        clients = {name: make(env) for name, make in CLIENTS.items()}
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for name, (read, count) in clients.items():
                for threads in THREADS:
                    times = measured(lambda r=read, t=threads: read_all(r, t), FILES * FILE_BYTES)
                    taken.setdefault((reading(threads), name), []).append(times)
                taken.setdefault((LISTING, name), []).append(measured(count, OBJECTS))
    rows = [
        {"task": task, "client": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}
        for (task, name), times in sorted(taken.items(), key=lambda item: TASKS.index(item[0][0]))
        for wall, cpu in [[statistics.median(column) for column in zip(*times, strict=True)]]
    ]
    print(
        f"{FILE_BYTES} bytes per file, median of {ROUNDS} rounds, {os.cpu_count()} {platform.machine()} cores"
    )
    print(f"{'task':<28}{'client':<10}{'wall, s':>9}{'CPU, s':>9}")
    for row in rows:
        print(f"{row['task']:<28}{row['client']:<10}{row['wall_s']:>9.2f}{row['cpu_s']:>9.2f}")
    if arguments.json:
        versions = {name: version(name) for name in ("pyarrow", "s3fs", "obstore", "botocore")}
        record = {"machine": platform.machine(), "cores": os.cpu_count(), "versions": versions, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def _fill(env: dict[str, str]) -> None:
    fs = s3fs.S3FileSystem(
        key=env["AWS_ACCESS_KEY_ID"],
        secret=env["AWS_SECRET_ACCESS_KEY"],
        client_kwargs={"endpoint_url": env["AWS_ENDPOINT_URL"], "region_name": REGION},
    )
    grain = np.random.default_rng(0).bytes(FILE_BYTES)
    fs.pipe({f"{BUCKET}/{key}": grain for key in KEYS})
    fs.pipe({f"{BUCKET}/list/{number:05d}.jpg": b"x" for number in range(OBJECTS)})


if __name__ == "__main__":
    main()
