"""Keys that are revoked while images are scored, and restored when the run has stopped.

First the store refuses the images alone, then everything, results included; then the keys are back.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.night.outcome import Outcome
from benchmarks.night.runs import Runs, committed, last_words
from devtools.faulty_store import Fault, Rule, faulty_store
from devtools.s3_server import BUCKET, s3_server, upload
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.sample import write_sample
from raysvq.settings import load_settings

PLACE = f"s3://{BUCKET}"
IMAGES = "/sample/"  # in the keys of the images, and in no other
SETTINGS = ["model.hidden=8", "ray.object_store_mib=256", "scoring.batch_images=4"]
SETTINGS += ["scoring.precision=float32"]


def score_without_keys(folder: Path, images: int = 240) -> Outcome:
    """The run stops and commits nothing; when the keys are back it goes on to the rows of a quiet night."""
    outcome = Outcome("keys")
    with s3_server(folder / "s3") as server, faulty_store(server.environment["AWS_ENDPOINT_URL"]) as link:
        os.environ |= server.environment
        manifest = _prepare(folder, images)
        quiet = Runs(manifest, f"{PLACE}/model", SETTINGS).score(f"{PLACE}/quiet")
        outcome.require(quiet.returncode == 0, last_words(quiet))
        wanted, _ = committed(f"{PLACE}/quiet")
        night = Runs(manifest, f"{PLACE}/model", SETTINGS, {"AWS_ENDPOINT_URL": link.endpoint})
        out = f"{PLACE}/scores"
        started = time.monotonic()
        for refused, says in ((IMAGES, "scoring.max_rejected"), ("/", "denied")):
            link.rule = _revoked_after(images // 3, refused)
            ended = night.score(out)
            stopped = ended.returncode != 0 and says in ended.stderr
            outcome.require(stopped, f"did not stop for {refused}: {last_words(ended)}")
            outcome.require(not committed(out)[0], f"committed without {refused}")
        link.forget()
        ended = night.score(out)
        outcome.seconds = time.monotonic() - started
        found, twice = committed(out)
    outcome.require(ended.returncode == 0, last_words(ended))
    outcome.require("took over" in ended.stdout, "nothing was taken over")
    lost = len(wanted.keys() - found.keys())
    other = sum(wanted.get(name) != value for name, value in found.items())
    outcome.figures |= {"images": images, "stops": 2, "lost": lost, "twice": twice, "other": other}
    outcome.require(not lost and not twice and not other, "other rows than those of a quiet night")
    return outcome


def _prepare(folder: Path, images: int) -> str:
    """Images, model and manifest; returns the manifest."""
    settings = load_settings(None, SETTINGS)
    source = write_sample(folder / "sample", normal=images - images // 10, anomalous=images // 10)
    upload(folder / "sample", f"{PLACE}/sample")
    save_bundle(untrained_bundle(settings, threshold=1.0), f"{PLACE}/model")
    manifest = f"{PLACE}/manifest.parquet"
    build_index(source.replace(str(folder), PLACE), manifest, settings.split)
    return manifest


def _revoked_after(images: int, refused: str) -> Rule:
    """Refuse requests for keys with `refused` in them, once so many images were asked for."""
    asked = itertools.count()
    revoked = threading.Event()

    def rule(_: str, target: str) -> Fault | None:
        if IMAGES in target and next(asked) >= images:
            revoked.set()
        return _refuse if revoked.is_set() and refused in target else None

    return rule


def _refuse(handler: Any) -> None:
    handler.answer(403, "InvalidAccessKeyId")
