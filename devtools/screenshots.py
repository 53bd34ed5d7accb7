"""Pictures of a report for the docs, or to look at: light, dark, narrow, zoomed, and as it is printed.

python -m devtools.screenshots REPORT.html FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from devtools.browser import Page, open_browser

_VIEWS: Mapping[str, tuple[int, int, bool]] = {  # width, height in pixels, dark
    "report": (1280, 1500, False),
    "report-dark": (1280, 1500, True),
    "report-tablet": (820, 1180, False),
    "report-phone": (390, 844, True),
}
_QUALITY = 80  # of the WebP files
_TALLEST = 16_000  # pixels; Chromium takes no taller picture


def main(report: str, folder: str) -> None:
    """Write a WebP file per view, one of the gallery, one of the dialog, and `report.pdf`."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as page:
        for name, (width, height, dark) in _VIEWS.items():
            page.look(width, height, dark=dark)
            page.open(Path(report).resolve())
            _save(page, out / f"{name}.webp")
        page.look(1280, 1500)
        page.open(Path(report).resolve())
        page.run("document.getElementById('images-title').scrollIntoView()")
        _save(page, out / "report-images.webp")
        page.look(1280, 940)
        page.run("document.querySelector('#cards button')?.click()")
        _save(page, out / "report-zoom.webp")
        page.press("Escape")
        (out / "report.pdf").write_bytes(page.pdf())
        page.look(1280, min(_TALLEST, page.run("document.documentElement.scrollHeight")))
        _save(page, out / "report-whole.webp")


def _save(page: Page, path: Path) -> None:
    page.drawn()
    pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(*sys.argv[1:3])
