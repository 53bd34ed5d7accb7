"""Peak memory of the driver from the listing on: `raysvq index`, then `raysvq score --plan`.

Run: python -m benchmarks.driver_memory [--objects 10000 1000000] [--folder 10000 1000000] [--json FILE].
Of a flat prefix of so many objects, one after the other on a store that makes them up, and (`--folder`) of a
flat local folder of so many empty files, which is only indexed. Each command runs in a process of its own;
the difference is what counts, since Python, PyTorch and Ray take the same each time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import cv2
import numpy as np

from benchmarks.process_memory import peak_bytes
from devtools.untrained import untrained_bundle
from raysvq.model.bundle import save_bundle
from raysvq.settings import load_settings

PREFIX = "images/"
_NO_MORE = "<IsTruncated>false</IsTruncated>"


class _Flat(BaseHTTPRequestHandler):
    """An S3 store with one prefix of so many objects, each the same picture."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    picture = b""
    objects = 0

    def do_GET(self) -> None:
        _, _, text = self.path.partition("?")
        query = {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
        if "list-type" in query:
            self._list(query)
        elif self.path.endswith(".png"):
            self._send(200, self.picture)
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET

    def _list(self, query: dict[str, str]) -> None:
        body, more = "", _NO_MORE
        if query.get("prefix") == PREFIX:
            start = int(query.get("continuation-token", 0))
            end = min(self.objects, start + int(query.get("max-keys", 1000)))
            rest = (
                f"<LastModified>2026-05-04T12:00:00.000Z</LastModified><ETag>{self._etag()}</ETag>"
                f"<Size>{len(self.picture)}</Size></Contents>"
            )
            body = "".join(
                f"<Contents><Key>{PREFIX}{number:09d}.png</Key>{rest}" for number in range(start, end)
            )
            if end < self.objects:
                more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        self._send(200, f"<ListBucketResult>{more}{body}</ListBucketResult>".encode())

    def _etag(self) -> str:
        return f'"{hashlib.md5(self.picture).hexdigest()}"'

    def _send(self, status: int, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", self._etag())
        self.send_header("Last-Modified", "Mon, 04 May 2026 12:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


def _serve(objects: int, port: Any) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    fields = {"objects": objects, "picture": cv2.imencode(".png", picture)[1].tobytes()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Flat,), fields))
    port.put(server.server_address[1])
    server.serve_forever()


@contextmanager
def flat_prefix(objects: int) -> Iterator[dict[str, str]]:
    """A store in a process of its own. Yields the variables that open it."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=_serve, args=(objects, port), daemon=True)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    try:
        yield keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port.get(timeout=60)}"}
    finally:
        server.terminate()
        server.join()


def peak(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run `raysvq` in a process of its own: {"mib": its peak, "seconds": …}."""
    command = [sys.executable, "-m", "benchmarks.driver_memory", "--run", json.dumps(arguments)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_here(arguments: list[str]) -> None:
    """What the process of its own does."""
    from raysvq.cli import main

    started = time.monotonic()
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise
    mib = round(peak_bytes() / 2**20)
    print(json.dumps({"mib": mib, "seconds": round(time.monotonic() - started, 1)}), flush=True)


def measure_prefix(objects: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Index a flat prefix, and plan the scoring of all of it."""
    manifest, model = f"{folder}/manifest.parquet", f"{folder}/model"
    with flat_prefix(objects) as store:
        indexed = peak(["index", f"s3://flat/{PREFIX}", "--out", manifest], store)
        yield {"command": "index", "source": "prefix", "images": objects, **indexed}
        plan = ["score", manifest, "--model", model, "--out", f"{folder}/scores", "--plan"]
        yield {"command": "score --plan", "source": "prefix", "images": objects, **peak(plan, store)}


def measure_folder(files: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Index a flat local folder."""
    with tempfile.TemporaryDirectory(dir=folder) as images:
        for number in range(files):
            os.close(os.open(f"{images}/{number:09d}.png", os.O_CREAT))
        indexed = peak(["index", images, "--out", f"{folder}/local.parquet"], {})
    yield {"command": "index", "source": "folder", "images": files, **indexed}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="*", default=[10_000, 1_000_000], help="of the prefixes")
    parser.add_argument("--folder", type=int, nargs="*", default=[], help="files of the local folders")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        peak_here(arguments.run)
        return
    rows: list[dict[str, Any]] = []
    print(f"{'source':<8}{'images':>12}  {'command':<14}{'driver, MiB':>12}{'seconds':>10}")
    with tempfile.TemporaryDirectory() as name:
        settings = load_settings(None, ["model.hidden=16"])
        save_bundle(untrained_bundle(settings, threshold=1e9), f"{name}/model")
        runs = [(measure_prefix, objects) for objects in arguments.objects]
        runs += [(measure_folder, files) for files in arguments.folder]
        for measure, number in runs:
            for row in measure(number, Path(name)):
                rows.append(row)
                text = f"{row['source']:<8}{row['images']:>12,}  {row['command']:<14}"
                print(f"{text}{row['mib']:>12}{row['seconds']:>10}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
