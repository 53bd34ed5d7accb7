"""A thousand images, three of which hang the decoder the first time it meets them."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.night.outcome import Outcome
from benchmarks.night.runs import Runs, committed, last_words
from devtools.hanging_images import HOLDS, SLEEPS, jpeg, python_path
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results
from raysvq.settings import load_settings

LIMIT_S = 10.0
SETTINGS = ["model.hidden=8", "ray.object_store_mib=256", f"scoring.decode_timeout_s={LIMIT_S:g}"]


def score_with_hangs(folder: Path, images: int = 1000, hanging: int = 3) -> Outcome:
    """Each that hangs is rejected in its time, and the others are scored."""
    outcome = Outcome("hangs")
    places = {(2 * number + 1) * images // (2 * hanging): number for number in range(hanging)}
    (folder / "images").mkdir(parents=True)
    for number in range(images):
        comment = (HOLDS, SLEEPS)[places[number] % 2] if number in places else b""
        (folder / f"images/{number:06d}.jpg").write_bytes(jpeg(number, comment))
    settings = load_settings(None, SETTINGS)
    manifest, model, out = (str(folder / name) for name in ("manifest.parquet", "model", "scores"))
    build_index(str(folder / "images"), manifest, settings.split)
    save_bundle(untrained_bundle(settings, threshold=1.0), model)
    started = time.monotonic()
    ended = Runs(manifest, model, SETTINGS, {"PYTHONPATH": python_path()}).score(out)
    outcome.seconds = time.monotonic() - started
    found, twice = committed(out)
    outcome.require(ended.returncode == 0, last_words(ended))
    rejected = open_results(out, "rejects").to_table().to_pylist() if found else []
    outcome.figures |= {"images": images, "hang": hanging, "rejected": len(rejected)}
    outcome.figures |= {"scored": len(found) - len(rejected), "s each": LIMIT_S, "twice": twice}
    names = {Path(row["uri"]).name for row in rejected}
    outcome.require(names == {f"{number:06d}.jpg" for number in places}, f"rejected {sorted(names)}")
    details = {row["detail"] for row in rejected}
    outcome.require(details == {f"decoding took more than {LIMIT_S:g} s"}, f"they say {sorted(details)}")
    outcome.require(len(found) == images and not twice, "other rows than images")
    return outcome
