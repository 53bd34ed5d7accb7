"""Pictures of a page for the docs, or to look at: light, dark, narrow, zoomed, and as it is printed.

python -m devtools.screenshots REPORT.html FOLDER [--all]
python -m devtools.screenshots FLEET/page/index.html FOLDER --fleet CAMERA [--all]
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from devtools.browser import Page, open_browser
from raysvq.report.fleet.addresses import page_name

_DESK = (1280, 1500)  # width and height in pixels
_TALLEST = 16_000  # pixels; Chromium takes no taller picture
_QUALITY = 80  # of the WebP files
_DUTY = datetime(2026, 11, 26, 6, 40, tzinfo=UTC)  # when the fleet's page is looked at


def main() -> None:
    """Write the docs' pictures; with --all also narrow windows, the dialog, the whole page and a PDF."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fleet", metavar="CAMERA", help="the page is a fleet's; show this camera, too")
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as page:
        if given.fleet:
            _look_at_fleet(page, given.report.resolve(), given.fleet, given.folder, everything=given.all)
            return
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
    _save_whole(page, folder / "report-whole.webp")


def _look_at_fleet(page: Page, index: Path, camera: str, folder: Path, *, everything: bool) -> None:
    page.set_clock(_DUTY)
    page.look(1280, 1000)
    page.open(index)
    _save(page, folder / "fleet.png")
    page.look(1280, 1000, dark=True)
    _save(page, folder / "fleet-dark.png")
    page.look(390, 844)
    _save(page, folder / "fleet-phone.png")
    page.look(1280, 1560)
    page.open(index.parent / "cameras" / page_name(camera))
    _save(page, folder / "fleet-camera.png")
    if everything:
        _save_whole(page, folder / "fleet-camera-dark.png", dark=True)
        page.look(390, 2400)
        _save(page, folder / "fleet-camera-phone.png")
        page.open(index)
        _save_whole(page, folder / "fleet-whole.png")
        page.look(390, 3000)
        page.run("document.getElementById('cameras').scrollIntoView()")
        _save(page, folder / "fleet-phone-list.png")
        (folder / "fleet.pdf").write_bytes(page.pdf())


def _save_whole(page: Page, path: Path, *, dark: bool = False) -> None:
    page.look(1280, 900)
    page.look(1280, min(_TALLEST, page.run("document.documentElement.scrollHeight")), dark=dark)
    _save(page, path)


def _save(page: Page, path: Path) -> None:
    page.drawn()
    if path.suffix == ".png":
        shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
        shot.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    else:
        pixels = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
