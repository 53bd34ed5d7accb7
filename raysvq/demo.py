"""Index, train, score and evaluate in one command, on generated sample images or on a user's own.

A demo keeps an inventory of the files that it made in its folder, so that the next one removes only those.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import duckdb

from raysvq import log
from raysvq.data.index import build_index
from raysvq.data.manifest import open_manifest
from raysvq.errors import DataError
from raysvq.evaluate_model import evaluate_model, result_text
from raysvq.results import open_results
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.settings import Settings
from raysvq.storage import canonical, configure
from raysvq.training.ray_trainer import train

PRODUCTS = ("sample", "manifest.parquet", "model", "scores", "report")
_INVENTORY = ".raysvq-demo"


def run_demo(data: str | None, out: str, settings: Settings) -> None:
    """Index, train, score, evaluate; print the metrics, the path of the report and a query.

    Args:
        data: an image tree, folder or listing; None draws the sample fleet.
        out: a local folder. What an earlier demo made there, and nothing else, is removed first.

    Raises:
        DataError: `out` holds other files, or images that `data` names.
        RaysvqError: one of the stages failed.
    """
    started = time.monotonic()
    configure(settings.storage)
    folder = demo_folder(out)
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / PRODUCTS[1]
        if data is not None:
            require_outside(folder, canonical(data), "the image set")
        require_only_own_files(folder)
        if data is not None:  # listed before anything is removed, as it may lead into the folder
            _index(data, str(listed), folder / listed.name, settings)
            _require_images_outside(folder, str(listed))
        with emptied(folder):
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
    decisions = bundle.decisions
    log.info(
        f"model {bundle.model_version}, threshold {decisions.threshold:.4g}\n{decisions.promise.sentence}",
        "result",
    )
    _title(f"raysvq score {manifest} --model {model} --out {scores}")
    outcome = score(manifest, model, scores, settings)
    rejects = ", ".join(f"{count} {reason}" for reason, count in outcome.rejects.most_common()) or "none"
    log.info(f"{outcome.scored} scored, {outcome.anomalous} anomalous; rejected: {rejects}", "result")
    _title(f"raysvq evaluate {manifest} --scores {scores} --model {model} --out {report_folder}")
    evaluation, _ = evaluate_model(manifest, scores, model, report_folder, settings.evaluation)
    log.info(result_text(evaluation), "result")
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


def demo_folder(out: str) -> Path:
    """The folder for the demo's files.

    Raises:
        DataError: `out` is no local folder.
    """
    if "://" in out:
        raise DataError(f"{out}: a demo makes a local folder; choose another --out")
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{out} is a file; expected a folder, which the demo makes")
    return folder


def require_only_own_files(folder: Path) -> None:
    """Check that a demo made every file in the folder, and that none has changed since.

    Raises:
        DataError: it names the first other file.
    """
    made = _inventory(folder)
    for name, state in _files(folder):
        if name != _INVENTORY and made.get(name) != state:
            raise DataError(
                f"{folder} holds files that no demo made, or that changed since, such as {name}; it removes"
                " only what it made: choose another --out, or remove the folder yourself"
            )


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Remove what an earlier demo made; on exit, list what this one made, even where it failed.

    Raises:
        DataError: as `require_only_own_files` does.
    """
    require_only_own_files(folder)
    for name in [name for name, _ in _files(folder)]:
        (folder / name).unlink()
    for product in PRODUCTS:
        for parent, _, _ in os.walk(folder / product, topdown=False):
            if not os.listdir(parent):
                os.rmdir(parent)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        made = {name: state for name, state in _files(folder) if Path(name).parts[0] in PRODUCTS}
        (folder / _INVENTORY).write_text(json.dumps({"folder": str(folder.resolve()), "files": made}))


def require_outside(folder: Path, uri: str, named_by: str) -> None:
    """Check that the demo would not remove an image set.

    Raises:
        DataError: `uri` lies in the folder, with links resolved.
    """
    if "://" not in uri and Path(os.path.realpath(uri)).is_relative_to(folder.resolve()):
        raise DataError(
            f"{uri}, {named_by}, lies in {folder}, which the demo empties first; choose another --out"
        )


def _inventory(folder: Path) -> dict[str, list[int]]:
    """Path below the folder -> [size in bytes, time of the last write in ns], for what the last demo made.

    Empty where the inventory is missing, or that of another folder.
    """
    try:
        content = json.loads((folder / _INVENTORY).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("folder") != str(folder.resolve()):
        return {}
    files: dict[str, list[int]] = content["files"]
    return files


def _files(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Every file and link below the folder, with its state as in `_inventory`; links are not followed."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent) / name
            state = path.lstat()
            yield str(path.relative_to(folder)), [state.st_size, state.st_mtime_ns]
