"""Pictures of a report for the docs, or to look at: light, dark, narrow, zoomed, and as it is printed.

python -m devtools.screenshots REPORT.html FOLDER [--all]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from devtools.browser import Page, open_browser

_DESK = (1280, 1500)  # width and height in pixels
_TALLEST = 16_000  # pixels; Chromium takes no taller picture
_QUALITY = 80  # of the WebP files


def main() -> None:
    """Write the docs' pictures; with --all also narrow windows, the dialog, the whole page and a PDF."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as page:
        page.look(*_DESK)
        page.open(given.report.resolve())
        _save(page, given.folder / "report.webp")
        page.run("document.getElementById('images-title').scrollIntoView()")
        _save(page, given.folder / "report-images.webp")
        page.look(*_DESK, dark=True)
        page.run("scrollTo(0, 0)")
        _save(page, given.folder / "report-dark.webp")
        if given.all:
            _look_at_all(page, given.folder)


def _look_at_all(page: Page, folder: Path) -> None:
    page.look(820, 1180)
    _save(page, folder / "report-tablet.webp")
    page.look(390, 844, dark=True)
    _save(page, folder / "report-phone.webp")
    page.look(1280, 940)
    page.run("document.querySelector('#cards button')?.click()")
    _save(page, folder / "report-zoom.webp")
    page.press("Escape")
    (folder / "report.pdf").write_bytes(page.pdf())
    page.look(1280, min(_TALLEST, page.run("document.documentElement.scrollHeight")))
    _save(page, folder / "report-whole.webp")


def _save(page: Page, path: Path) -> None:
    page.drawn()
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
