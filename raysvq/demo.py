"""The whole of raysvq in one command, on generated sample images or on a user's own."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import duckdb

from raysvq.data.index import build_index
from raysvq.errors import DataError
from raysvq.imaging.sample import write_sample
from raysvq.judge import judge, table
from raysvq.results import open_results
from raysvq.scoring.job import score
from raysvq.settings import Settings
from raysvq.storage import canonical, configure
from raysvq.training.launch import train

_MARK = ".raysvq-demo"


def run_demo(data: str | None, out: str, settings: Settings) -> None:
    """Index, train, score, evaluate; print the figures, the report's path and a query.

    Args:
        data: an image tree, folder or listing; None draws the sample fleet.
        out: a local folder, emptied first if an earlier demo made it.

    Raises:
        DataError: `out` holds something else; and whatever the stages raise.
    """
    started = time.monotonic()
    configure(settings.storage)
    if data is not None:
        _require_outside(data, out)
    folder = _fresh(Path(out))
    manifest, model = str(folder / "manifest.parquet"), str(folder / "model")
    scores, report_folder = str(folder / "scores"), str(folder / "report")
    if data is None:
        _title("sample images")
        data = write_sample(folder / "sample")
    _title(f"raysvq index {data} --out {manifest}")
    print("\n".join(build_index(data, manifest, settings.split).lines()))
    _title(f"raysvq train {manifest} --out {model}")
    bundle = train(manifest, model, settings)
    print(f"model {bundle.model_version}, threshold {bundle.reference.image_threshold:.4g}")
    _title(f"raysvq score {manifest} --model {model} --out {scores}")
    outcome = score(manifest, model, scores, settings)
    rejects = ", ".join(f"{count} {reason}" for reason, count in outcome.rejects.most_common()) or "none"
    print(f"{outcome.scored} scored, {outcome.anomalous} anomalous; rejected: {rejects}")
    _title(f"raysvq evaluate {manifest} --scores {scores} --model {model} --out {report_folder}")
    evaluation, _ = judge(manifest, scores, model, report_folder, settings.evaluation)
    print(table(evaluation))
    query = (
        "select parse_filename(uri) as image, round(image_score, 2) as score, is_anomalous,"
        " len(regions) as regions from scores order by image_score desc limit 5"
    )
    opened = f'scores = raysvq.open_results("{scores}", "scores")'
    _title(f"python -c 'import duckdb, raysvq; {opened}; print(duckdb.sql(\"{query}\"))'")
    with duckdb.connect() as connection:
        connection.register("scores", open_results(scores, "scores"))
        print(connection.sql(query))
    print(f"done in {time.monotonic() - started:.0f} s; the report is {report_folder}/report.html")


def _require_outside(data: str, out: str) -> None:
    """Raise DataError where emptying `out` would remove the images."""
    if f"{canonical(data)}/".startswith(f"{canonical(out)}/"):
        raise DataError(f"{data} lies in {out}, which the demo empties first; choose another --out")


def _fresh(folder: Path) -> Path:
    """An empty folder; only what an earlier demo left is removed."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise DataError(f"{folder} holds files that no demo made; choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


def _title(text: str) -> None:
    print(f"\n\033[1m$ {text}\033[0m" if text.startswith(("raysvq", "python")) else f"\n{text}", flush=True)
