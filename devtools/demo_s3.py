"""All stages on object storage: an S3 server of this machine, the sample images, a model, scores, a report.

Run: make demo-s3. Every path of the run is an s3:// URI; only the report is copied to runs/demo-s3/.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import duckdb

from devtools.s3_server import BUCKET, s3_server, upload
from raysvq.data.index import build_index
from raysvq.evaluate_model import evaluate_model, result_text
from raysvq.results import open_results
from raysvq.sample import write_sample
from raysvq.scoring.job import score
from raysvq.settings import load_settings
from raysvq.storage import configure, join, list_objects, read_bytes
from raysvq.training.ray_trainer import train

PLACE = f"s3://{BUCKET}/demo"
OUT = Path("runs/demo-s3")
QUERY = """
select parse_filename(uri) as image, round(image_score, 2) as score, is_anomalous, len(regions) as regions
from scores order by image_score desc limit 5
"""


def main() -> None:
    """Run it, print the figures, a query over the committed scores and where the report is."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder) / "s3") as server:
        environment = server.environment
        settings = load_settings(
            "sample",
            [
                f"storage.endpoint_url={environment['AWS_ENDPOINT_URL']}",
                f"storage.region={environment['AWS_REGION']}",
                f"storage.access_key_id={environment['AWS_ACCESS_KEY_ID']}",
                f"storage.secret_access_key={environment['AWS_SECRET_ACCESS_KEY']}",
            ],
        )
        configure(settings.storage)
        listing = _upload_sample(Path(folder) / "sample")
        manifest, model, scores, report = (
            join(PLACE, name) for name in ("manifest.parquet", "model", "scores", "report")
        )
        print(f"\nindex {listing} -> {manifest}")
        print(build_index(listing, manifest, settings.split).table())
        print(f"\ntrain {manifest} -> {model}")
        train(manifest, model, settings)
        print(f"\nscore {manifest} with {model} -> {scores}")
        summary = score(manifest, model, scores, settings)
        print(f"{summary.scored} scored, {summary.rejects.total()} rejected")
        print(f"\nevaluate {scores} -> {report}")
        evaluation, page = evaluate_model(manifest, scores, model, report, settings.evaluation)
        print(result_text(evaluation))
        print(f"\nthe highest scores, by DuckDB from {scores}")
        with duckdb.connect() as connection:
            connection.register("scores", open_results(scores, "scores"))
            print(connection.sql(QUERY))
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / "report.html").write_bytes(read_bytes(page))
        objects = sum(1 for _ in list_objects(PLACE))
    print(f"done in {time.monotonic() - started:.0f} s, {objects} objects; the report is {OUT}/report.html")


def _upload_sample(folder: Path) -> str:
    """Draw the sample images and copy them into the bucket; the listing's URI."""
    listing = Path(write_sample(folder))
    upload(folder, join(PLACE, "sample"))
    return join(PLACE, "sample", listing.relative_to(folder).as_posix())


if __name__ == "__main__":
    main()
