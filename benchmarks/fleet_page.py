"""The fleet's page: how long it takes to write, and in a headless Chromium to open, to filter and to sort.

python -m benchmarks.fleet_page --cameras 1000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from devtools.browser import Page, open_browser
from raysvq.report.fleet import write_page
from tests.report.fleets import fleet

_TIMES = 5
_CHANGED = 50  # cameras with news, of a night after the first
_TYPE = "byId('search').value = {text!r}; byId('search').dispatchEvent(new Event('input'))"
_DRAWN = "new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))"


def main() -> None:
    """Print the figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=1000)
    given = parser.parse_args()
    runs, nights = fleet(given.cameras)
    with tempfile.TemporaryDirectory() as scratch:
        out = str(Path(scratch, "fleet"))
        started = time.monotonic()
        index = Path(write_page(out, runs, nights))
        whole_s = time.monotonic() - started
        changed = {each.camera for each in nights[-1][:_CHANGED]}
        started = time.monotonic()
        write_page(out, runs, nights, changed)
        found = {
            "cameras": len(nights[-1]),
            "index_mb": round(index.stat().st_size / 1e6, 2),
            "camera_page_kb": round(_mean_kb(index.parent / "cameras")),
            "write_all_s": round(whole_s, 1),
            f"write_{_CHANGED}_s": round(time.monotonic() - started, 1),
        }
        with open_browser(Path(scratch, "profile")) as page:
            for name, size in {"laptop": (1280, 900), "phone": (390, 844)}.items():
                page.look(*size)
                found |= {f"{name}_{key}": value for key, value in _timed(page, index).items()}
            assert not page.complaints
    print(json.dumps(found))


def _timed(page: Page, index: Path) -> dict[str, float]:
    """Medians: seconds until the page has drawn, milliseconds until a filter or an order has."""
    opened, filtered, sorted_by = [], [], []
    for _ in range(_TIMES):
        started = time.monotonic()
        page.open(index)
        page.drawn()
        opened.append(time.monotonic() - started)
        for text in ("line-2", "", "darker", ""):
            filtered.append(_drawn_ms(page, _TYPE.format(text=text)))
        for key in ("rate", "names"):
            sorted_by.append(_drawn_ms(page, f"document.querySelector('th[data-key={key}] button').click()"))
    return {
        "open_s": round(statistics.median(opened), 2),
        "filter_ms": round(statistics.median(filtered)),
        "filter_worst_ms": round(max(filtered)),
        "sort_ms": round(statistics.median(sorted_by)),
    }


def _drawn_ms(page: Page, deed: str) -> float:
    since = "return performance.now() - started"
    timed = f"(async () => {{ const started = performance.now(); {deed}; await {_DRAWN}; {since}; }})()"
    return float(page.run(timed))


def _mean_kb(folder: Path) -> float:
    return statistics.mean(path.stat().st_size for path in folder.iterdir()) / 1e3


if __name__ == "__main__":
    main()
