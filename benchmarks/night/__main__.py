"""A night of faults: what breaks on the way costs time and nothing else.

Run: python -m benchmarks.night [NAMES] [--json FILE]. Each scenario runs in a process of its own, prints a
line of figures, and is counted as failed where one of them is not as it must be:

    listing      50,000 keys of a store that answers every tenth page with 503
    large-file   a TIFF of 600 MB over a link that is reset twice
    hangs        1,000 images, 3 of which hang the decoder
    keys         keys that are revoked in the middle of a run, twice, and restored
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.night.hangs import score_with_hangs
from benchmarks.night.keys import score_without_keys
from benchmarks.night.large_file import read_over_resets
from benchmarks.night.listing import list_with_faults
from benchmarks.night.outcome import Outcome

SCENARIOS: dict[str, Callable[[Path], Outcome]] = {
    "listing": list_with_faults,
    "large-file": read_over_resets,
    "hangs": score_with_hangs,
    "keys": score_without_keys,
}


def run(name: str) -> Outcome:
    """A scenario, in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, _process() as process:
        return process.submit(SCENARIOS[name], Path(folder)).result()


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def main() -> None:
    """Run the scenarios, print a line of each, exit with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[[], *SCENARIOS], default=[], metavar="NAME", help="all, if none is given"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    outcomes = []
    for name in arguments.names or SCENARIOS:
        outcomes.append(run(name))
        print(outcomes[-1].line(), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    sys.exit(int(any(each.problems for each in outcomes)))


if __name__ == "__main__":
    main()
