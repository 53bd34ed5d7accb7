"""Two weeks of a fleet, rehearsed: a table of the nights, then what they must have shown.

Run: python -m devtools.rehearsal [--short] [--json FILE] [--folder FOLDER], see docs/rehearsal.md. The exit
code is 1 where anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from devtools.ray_token import start_over_with_token
from devtools.rehearsal.bookkeeper import Bookkeeper
from devtools.rehearsal.claims import Claim, judge
from devtools.rehearsal.models import make_models, make_spare
from devtools.rehearsal.nights import HEAD, Night, run_nights
from devtools.rehearsal.script import FULL, SHORT, Script
from devtools.rehearsal.site import site
from devtools.rehearsal.webhook import webhook


def rehearse(script: Script, folder: Path) -> tuple[list[Night], list[Claim]]:
    """All nights, printed one by one; then the claims."""
    with webhook() as (url, told), site(folder, script.nodes) as place:
        os.environ["REHEARSAL_WEBHOOK"] = url
        books = Bookkeeper(script)
        make_models(place, books)
        spare = make_spare(place)
        print(HEAD, flush=True)
        nights = []
        for night in run_nights(place, books, spare):
            nights.append(night)
            print(night.line(), flush=True)
        return nights, judge(script, nights, "\n".join(told))


def main() -> None:
    """Rehearse, print the tables, exit with 1 where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer cameras and nights")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="keep images, store and logs of the runs there")
    arguments = parser.parse_args()
    start_over_with_token("devtools.rehearsal")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp()) if arguments.folder is None else arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        nights, claims = rehearse(SHORT if arguments.short else FULL, folder)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)
    seconds = time.monotonic() - started
    for claim in claims:
        print(claim.line())
        for each in claim.against:
            print(f"       {each}")
    print(f"{len(nights)} nights in {seconds:.0f} s", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(_figures(nights, claims, seconds), indent=1) + "\n")
    sys.exit(int(any(claim.against for claim in claims)))


def _figures(nights: list[Night], claims: list[Claim], seconds: float) -> dict[str, Any]:
    """For --json."""
    counts = ("scored", "rejected")
    table = [
        {name: value for name, value in vars(night).items() if name != "cameras"}
        | {name: night.total(name) for name in counts}
        for night in nights
    ]
    return {"seconds": seconds, "nights": table, "claims": [asdict(claim) for claim in claims]}


if __name__ == "__main__":
    main()
