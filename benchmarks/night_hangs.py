"""A night's images of which a few hang the decoder: each rejected in its time, the others scored.

Run: python -m benchmarks.night_hangs
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from benchmarks.night_runs import Runs, require, rows
from devtools.hanging_images import HOLDS, SLEEPS, jpeg, python_path
from devtools.untrained import untrained_bundle
from raysvq.data.index import build_index
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results
from raysvq.settings import load_settings

LIMIT_S = 10.0
SETTINGS = ["model.hidden=8", "ray.object_store_mib=256", f"scoring.decode_timeout_s={LIMIT_S:g}"]


def hangs(folder: Path, images: int = 1000, hanging: int = 3) -> dict[str, object]:
    """Score them; prints a line.

    Raises:
        RuntimeError: an image is lost, hangs on, or takes a good one along.
    """
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
    seconds = time.monotonic() - started
    require(ended.returncode == 0, "the run failed", ended)
    found, twice = rows(out)
    rejected = open_results(out, "rejects").to_table().to_pylist()
    names = {Path(row["uri"]).name for row in rejected}
    require(names == {f"{number:06d}.jpg" for number in places}, f"rejected {sorted(names)}", ended)
    details = {row["detail"] for row in rejected}
    require(details == {f"decoding took more than {LIMIT_S:g} s"}, f"they say {sorted(details)}", ended)
    require(len(found) == images and not twice, f"{len(found)} rows, {twice} twice", ended)
    print(
        f"hangs   {images} images, {hanging} hang the decoder: {len(rejected)} rejected after {LIMIT_S:g} s"
        f" each, {images - len(rejected)} scored, in {seconds:.0f} s"
    )
    return {"images": images, "hanging": hanging, "rejected": len(rejected), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(hangs(Path(name))))
