"""The whole of raysvq in one command, on generated sample images or on a user's own."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import duckdb

from raysvq import log
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.demo_folder import PRODUCTS, demo_folder, fresh, require_outside, require_own
from raysvq.judge import judge, table
from raysvq.results import open_results
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.settings import Settings
from raysvq.storage import canonical, configure
from raysvq.training.launch import train


def run_demo(data: str | None, out: str, settings: Settings) -> None:
    """Index, train, score, evaluate; print the figures, the report's path and a query.

    Args:
        data: an image tree, folder or listing; None draws the sample fleet.
        out: a local folder; what an earlier demo made there, and nothing else, is removed first.

    Raises:
        DataError: `out` holds something else, or images that `data` names; and whatever the stages raise.
    """
    started = time.monotonic()
    configure(settings.storage)
    folder = demo_folder(out)
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / PRODUCTS[1]
        if data is not None:
            require_outside(folder, canonical(data), "the image set")
        require_own(folder)
        if data is not None:  # listed before anything is removed: it may lead into the folder
            _index(data, str(listed), folder / listed.name, settings)
            _require_images_outside(folder, str(listed))
        with fresh(folder):
            if data is None:
                _title("sample images")
                _index(write_sample(folder / "sample"), str(listed), folder / listed.name, settings)
            shutil.move(listed, folder / listed.name)
            _run(folder, settings)
    seconds = time.monotonic() - started
    log.info(f"done in {seconds:.0f} s; the report is {folder}/report/report.html", "result", seconds=seconds)


def _index(data: str, listed: str, manifest: Path, settings: Settings) -> None:
    _title(f"raysvq index {data} --out {manifest}")
    summary = replace(build_index(data, listed, settings.split), manifest=str(manifest))
    log.info("\n".join(summary.lines()), "result", images=summary.images)


def _require_images_outside(folder: Path, manifest: str) -> None:
    for batch in open_manifest(manifest).to_batches(columns=["uri", "mask_uri"]):
        for uri in chain(batch["uri"].to_pylist(), batch["mask_uri"].to_pylist()):
            if uri is not None:
                require_outside(folder, uri, "an image or mask of the set")


def _run(folder: Path, settings: Settings) -> None:
    _, manifest, model, scores, report_folder = (str(folder / name) for name in PRODUCTS)
    _title(f"raysvq train {manifest} --out {model}")
    bundle = train(manifest, model, settings)
    log.info(f"model {bundle.model_version}, threshold {bundle.reference.image_threshold:.4g}", "result")
    _title(f"raysvq score {manifest} --model {model} --out {scores}")
    outcome = score(manifest, model, scores, settings)
    rejects = ", ".join(f"{count} {reason}" for reason, count in outcome.rejects.most_common()) or "none"
    log.info(f"{outcome.scored} scored, {outcome.anomalous} anomalous; rejected: {rejects}", "result")
    _title(f"raysvq evaluate {manifest} --scores {scores} --model {model} --out {report_folder}")
    evaluation, _ = judge(manifest, scores, model, report_folder, settings.evaluation)
    log.info(table(evaluation), "result")
    query = (
        "select parse_filename(uri) as image, round(image_score, 2) as score, is_anomalous,"
        " len(regions) as regions from scores order by image_score desc limit 5"
    )
    opened = f'scores = raysvq.open_results("{scores}", "scores")'
    _title(f"python -c 'import duckdb, raysvq; {opened}; print(duckdb.sql(\"{query}\"))'")
    with duckdb.connect() as connection:
        connection.register("scores", open_results(scores, "scores"))
        log.info(str(connection.sql(query)), "result")


def _title(text: str) -> None:
    log.info(f"\n$ {text}" if text.startswith(("raysvq", "python")) else f"\n{text}", "stage", message=text)
