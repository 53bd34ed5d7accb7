"""What a scoring job leaves behind: the format, and everything that reads or writes it.

<scores>/scores/part-….parquet    one row per image, see raysvq.schema.SCORES
<scores>/rejects/part-….parquet   images that could not be scored, with a reason
<scores>/maps/part-….parquet      anomaly maps of labelled images
<scores>/heatmaps/                overlays of anomalous images, and of each run's highest scores
<scores>/_commits/<number>.json   names the files that count, see raysvq.results.format
<scores>/_ids/                    which images those files are about, see raysvq.results.ids

Partitioned results have folders such as site=north/date=2026-05-04 above the files.
"""

from raysvq.results.commit_log import Snapshot, publish, read_snapshot
from raysvq.results.format import COMMITS, SCHEMAS, Commit, File, Files, RunRecord
from raysvq.results.reader import committed_files, open_results, read_commits, read_results, read_scores

__all__ = [
    "COMMITS",
    "SCHEMAS",
    "Commit",
    "File",
    "Files",
    "RunRecord",
    "Snapshot",
    "committed_files",
    "open_results",
    "publish",
    "read_commits",
    "read_results",
    "read_scores",
    "read_snapshot",
]
