"""Keys that are revoked while a night's images are scored: the run stops, and goes on when they are back.

Run: python -m benchmarks.night_keys

First the store refuses the images alone, then everything, results included; then the keys are restored.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.night_runs import Runs, require, rows
from devtools.faulty_store import Fault, Rule, faulty_store
from devtools.s3_server import BUCKET, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.imaging.sample import write_sample
from raysvq.model.bundle import save_bundle
from raysvq.settings import load_settings
from raysvq.storage import forget_clients

SETTINGS = [
    "model.hidden=8",
    "ray.object_store_mib=256",
    "scoring.batch_images=4",
    "scoring.precision=float32",
]


def keys(folder: Path, images: int = 240) -> dict[str, object]:
    """Score them through both revocations; prints a line.

    Raises:
        RuntimeError: a run did not stop, or committed what it should not, or the end differs.
    """
    place = f"s3://{BUCKET}"
    with s3_server(folder / "s3") as server, _environment(server.environment):
        manifest = _prepare(folder, place, images)
        plain = Runs(manifest, f"{place}/model", SETTINGS)
        ended = plain.score(f"{place}/undisturbed")
        require(ended.returncode == 0, "the undisturbed run failed", ended)
        wanted, _ = rows(f"{place}/undisturbed")
        with faulty_store(server.environment["AWS_ENDPOINT_URL"]) as store:
            night = Runs(manifest, f"{place}/model", SETTINGS, {"AWS_ENDPOINT_URL": store.endpoint})
            out = f"{place}/scores"
            started = time.monotonic()
            for only, word in (("/sample/", "scoring.max_rejected"), ("/", "denied")):
                store.rule = _revoked_after(images // 3, only)
                ended = night.score(out)
                require(ended.returncode != 0 and word in ended.stderr, "the run did not stop", ended)
                require(not rows(out)[0], "a stopped run has committed", ended)
            store.forget()
            ended = night.score(out)
            seconds = time.monotonic() - started
        require(ended.returncode == 0, "the run did not go on", ended)
        found, twice = rows(out)
    require("took over" in ended.stdout, "nothing was taken over", ended)
    lost = len(wanted.keys() - found.keys())
    other = sum(wanted.get(name) != value for name, value in found.items())
    require(not lost and not twice and not other, f"{lost} lost, {twice} twice, {other} other", ended)
    print(
        f"keys    {images} images, keys revoked twice: stopped twice, then {len(found)} rows,"
        f" {lost} lost, {twice} twice, {other} other, in {seconds:.0f} s"
    )
    return {"images": images, "stops": 2, "lost": lost, "twice": twice, "seconds": round(seconds, 1)}


def _prepare(folder: Path, place: str, images: int) -> str:
    """Images, model and manifest; returns the manifest."""
    settings = load_settings(None, SETTINGS)
    source = write_sample(folder / "sample", normal=images - images // 10, anomalous=images // 10)
    upload(folder / "sample", f"{place}/sample")
    save_bundle(untrained_bundle(settings, threshold=1.0), f"{place}/model")
    manifest = f"{place}/manifest.parquet"
    build_index(source.replace(str(folder), place), manifest, settings.split)
    return manifest


def _revoked_after(images: int, only: str) -> Rule:
    """Refuse requests for keys with `only` in them, once so many images were asked for."""
    asked = itertools.count()
    revoked = threading.Event()

    def rule(method: str, target: str) -> Fault | None:
        if "/sample/" in target and next(asked) >= images:
            revoked.set()
        return _refuse if revoked.is_set() and only in target else None

    return rule


def _refuse(handler: Any) -> None:
    handler.answer(403, "InvalidAccessKeyId")


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = os.environ.copy()
    os.environ.update(variables)
    forget_clients()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        forget_clients()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(keys(Path(name))))
