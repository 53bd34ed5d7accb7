"""What a choice of settings is worth on a set that it was not made on.

Run: python -m benchmarks.choices CHOICES.yaml [--method NAME] [--metric NAME] [options of accuracy]

CHOICES.yaml names choices, and for each its alternatives, the simplest first, as settings:

    pooling:
      maximum: [anomaly.pooling=map_max]
      top 10: [anomaly.pooling=top_k, anomaly.top_k=10]

For each set the alternative with the best mean over the other sets is chosen, and its value on the set itself
is reported: the figure to believe. Of alternatives within 0.001 the first is taken. The mean of what is
chosen on all sets is printed as well: a development figure, better than new sets will show.

Values are means over the draws, and over the levels of `--labels`. Runs are those of `benchmarks.accuracy`,
and may share its records.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.methods.command import Session, add_arguments, session
from benchmarks.methods.jobs import Job, complete, plan
from benchmarks.methods.left_out import judge, lines
from benchmarks.methods.protocol import METRICS
from benchmarks.methods.registry import METHODS
from raysvq.errors import SettingsError
from raysvq.settings.files import read_config

Alternatives = Mapping[str, Sequence[str]]  # name -> settings


def read_choices(path: Path) -> dict[str, Alternatives]:
    """The choices of a YAML file.

    Raises:
        SettingsError: it cannot be read, or a choice has not at least two alternatives that are lists.
    """
    found = read_config(path)
    for name, alternatives in found.items():
        if not isinstance(alternatives, dict) or len(alternatives) < 2:
            raise SettingsError(f"{path}: `{name}` has {alternatives!r}; expected two or more alternatives")
        for alternative, settings in alternatives.items():
            if not isinstance(settings, list) or not all(isinstance(one, str) for one in settings):
                raise SettingsError(
                    f"{path}: `{name}: {alternative}` is {settings!r}; expected a list such as"
                    " [anomaly.top_k=10], [] for the defaults"
                )
    return found


def values_of(jobs: Sequence[Job], here: Session, metric: str) -> dict[str, float]:
    """The metric of each set, mean over draws and levels.

    Raises:
        SettingsError: a training ran away.
    """
    by_set: dict[str, list[float]] = {}
    for job in jobs:
        run = here.records.find(job.digest)
        if run is None or run.get(metric) is None:
            raise SettingsError(f"{job}: no {metric} ({(run or {}).get('problem', 'not measured')})")
        by_set.setdefault(job.set_name, []).append(run[metric])
    return {name: fmean(found) for name, found in by_set.items()}


def main() -> None:
    """Run what is missing, and print a table for each choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("choices", type=Path, help="YAML file")
    parser.add_argument("--method", default="features", choices=list(METHODS), help="default: features")
    parser.add_argument("--metric", default="image_auroc", choices=METRICS, help="default: image_auroc")
    add_arguments(parser, labels=[0])
    arguments = parser.parse_args()
    if len(arguments.sets) < 2:
        parser.error("--sets: expected at least two, to leave one out")
    choices = read_choices(arguments.choices)
    with session(arguments) as here:
        jobs = {
            (name, alternative): plan(
                arguments.sets,
                [arguments.method],
                here.levels,
                arguments.seeds,
                [*arguments.set, *settings],
                here.manifests,
            )
            for name, alternatives in choices.items()
            for alternative, settings in alternatives.items()
        }
        complete([job for part in jobs.values() for job in part], here.records, here.bench)
        for name, alternatives in choices.items():
            values = {one: values_of(jobs[name, one], here, arguments.metric) for one in alternatives}
            print(f"\n{name}: {arguments.metric}, {arguments.method}, {', '.join(map(str, here.levels))}")
            print("\n".join(lines(judge(values))))


if __name__ == "__main__":
    main()
