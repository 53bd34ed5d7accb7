"""The page of an evaluation of many images: how long it takes to write and to open, and how large it is.

The images of a demo stand for as many as are asked for, with scores of their own:

python -m raysvq demo && python -m benchmarks.report runs/demo --images 10000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from devtools.browser import open_browser
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.result import Evaluation
from raysvq.model.bundle import load_bundle
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings

_OPENINGS = 5


def main() -> None:
    """Print the figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="write the page here")
    given = parser.parse_args()
    evaluation = _enlarged(_evaluate(given.demo), given.images)
    with tempfile.TemporaryDirectory() as scratch:
        page = given.keep or Path(scratch, "report.html")
        started = time.monotonic()
        render(evaluation, None, {}, str(page.resolve()))
        written_s = time.monotonic() - started
        found = {
            "images": len(evaluation.images),
            "pictures": evaluation.settings.gallery,
            "mb": round(page.stat().st_size / 1e6, 2),
            "write_s": round(written_s, 1),
            "open_s": round(_open_s(page, Path(scratch, "profile")), 2),
        }
    print(json.dumps(found))


def _evaluate(demo: Path) -> Evaluation:
    bundle = load_bundle(str(demo / "model"))
    settings = EvaluationSettings(bootstrap=0)
    return evaluate(
        str(demo / "manifest.parquet"),
        str(demo / "scores"),
        settings,
        bundle.settings.tiles,
        bundle.model_digest,
        bundle.decisions,
    )


def _enlarged(evaluation: Evaluation, number: int) -> Evaluation:
    """The evaluation of `number` images: its own ones, then copies under other names and scores."""
    noise = np.random.default_rng(0).lognormal(0, 0.1, number)
    own = evaluation.images
    images = list(own[:number])
    for place in range(len(own), number):
        image = own[place % len(own)]
        score = image.score * float(noise[place])
        uri = f"{image.uri.rsplit('/', 1)[0]}/{place:06}-{image.uri.rsplit('/', 1)[1]}"
        flagged = score >= image.threshold
        images.append(replace(image, image_id=f"{place}", uri=uri, score=score, flagged=flagged))
    return replace(evaluation, images=tuple(images))


def _open_s(page: Path, profile: Path) -> float:
    """Median seconds until the page has drawn, in a headless Chromium."""
    seconds = []
    with open_browser(profile) as browser:
        browser.look(1280, 900)
        for _ in range(_OPENINGS):
            started = time.monotonic()
            browser.open(page.resolve())
            browser.drawn()
            seconds.append(time.monotonic() - started)
        assert not browser.complaints
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
