"""How well anomalies are found: ss-VQ-VAE beside other methods, on the same images, draws and metrics.

Run: python -m benchmarks.accuracy [--sets NAME ...] [--methods NAME ...] [--labels N ... | --gammas G ...]
     [--hidden SHARE ...] [--unseen-types] [--seeds N ...] [--data FOLDER] [--json FILE]
     [--predictions FOLDER] [--cache FOLDER] [--jobs N] [--plot FILE.svg] [--set SECTION.NAME=VALUE ...]

--data holds a folder for each set, an image tree or a `listing.csv`; by default RAYSVQ_DATA, or
../shared/data. A run is a method on one draw of a set, with so many labelled outliers, or so large a share
gamma of them, and with the share --hidden of the training images being defects that count as normal. With
--unseen-types no defect of a labelled type is tested; sets of a single type are left out. All methods and
levels of a draw are measured on the same test images; `benchmarks/methods/draws.py` says which.

A run that stands in the JSON with the same draw and settings, and whose scores are there, is not run again,
so that an interrupted command goes on where it was; after a change of code use another file. Runs take one
thread, --jobs of them at a time. With --cache frozen features are computed once for all runs.

Metrics are those of `raysvq evaluate`, mean and standard deviation over the draws; tile AUROC is taken on
tiles of 64 x 64 pixels, anomalous where 5 % are marked, for every method. Then come the differences, see
`benchmarks/methods/paired.py`. `train s` is from manifest to model, without the models of folds that
`raysvq train` fits thresholds by; `score ms` from file to map, of one image: in CPU time, or where a GPU
computes (`training.device`), in time of the clock, which grows with whatever else runs there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.methods.command import add_arguments, session
from benchmarks.methods.comparisons import differences, lines_of, marks
from benchmarks.methods.jobs import complete, finished, hardware, plan
from benchmarks.methods.plot import plot
from benchmarks.methods.registry import BANKS, METHODS
from benchmarks.methods.tables import figures

DEFAULT = ["features", *BANKS]


def main() -> None:
    """Run, print the tables, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser, labels=[0, 1, 2, 5, 10, 20])
    parser.add_argument(
        "--methods", nargs="+", default=DEFAULT, choices=list(METHODS), help=f"default: {' '.join(DEFAULT)}"
    )
    parser.add_argument("--gammas", nargs="+", type=float, help="instead of --labels: M / (M + N)")
    parser.add_argument("--hidden", nargs="+", type=float, default=[], help="shares of the training images")
    parser.add_argument("--plot", type=Path, help="also draw AUROC against labels, as this SVG and a PNG")
    arguments = parser.parse_args()
    with session(arguments) as here:
        jobs = plan(
            arguments.sets, arguments.methods, here.levels, arguments.seeds, arguments.set, here.manifests
        )
        if not jobs:
            parser.error("no set has enough anomalous images for any level")
        complete(jobs, here.records, here.bench)
        found = finished(jobs, here.records)
        print(f"\n{hardware(jobs[0].settings)}\n{figures(found)}")
        print("\n".join(marks(found)))
        print("\n".join(lines_of(differences(found, here.bench.predictions))))
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
