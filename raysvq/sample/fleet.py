"""The sample fleet: assets at sites, photographed on dates by cameras; the image files and their listing."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raysvq.imaging.noise import Size
from raysvq.sample import defects, textures
from raysvq.sample.camera import CAMERAS, Camera, Frame, digitise, encode, expose, tone
from raysvq.sample.textures import PAINTED, Light, PaintStyle, SteelStyle, Surface

COLUMNS = ("uri", "label", "mask_uri", "defect_type", "group", "captured_at", "site", "camera", "surface")
SITES = ("harbour", "refinery")
FIRST_DAY = datetime(2025, 3, 3, 6, 30, tzinfo=UTC)
DAYS = (0, 3, 8, 11, 16, 20)
WORKING_MINUTES = 10 * 60

# A pixel counts as damaged where its noise-free value changes by more than this share of the full scale.
VISIBLE = 0.05
MIN_MARKED = 0.002  # share of the pixels of a damaged image

PAINTERS: dict[str, defects.Painter] = {
    "pitting": defects.pitting,
    "rust": defects.rust,
    "scratch": defects.scratch,
    "contamination": defects.contamination,
}


@dataclass(frozen=True)
class Asset:
    """A plate or a panel on the day it was photographed.

    Attributes:
        name: the `group` of its images.
        seed: of everything that its images share.
        camera: that photographs it.
        site: index into SITES.
        day: index into DAYS.
        defect: a key of PAINTERS; empty for a sound asset.
        images: number of images.
        start: time of the first image.
    """

    name: str
    seed: tuple[int, ...]
    camera: Camera
    site: int
    day: int
    defect: str
    images: int
    start: datetime


@dataclass(frozen=True)
class View:
    """One image: its pixels as stored, and the (H, W) mask of the damage."""

    pixels: Frame
    mask: npt.NDArray[np.bool_]


def write_sample(folder: str | Path, seed: int = 0, normal: int = 160, anomalous: int = 60) -> str:
    """Write generated inspection images and the listing that names them.

    Two sites, six dates, three cameras: brushed plates in 8-bit RGB (PNG), painted panels in 8-bit
    RGB (JPEG) and ground plates in 16-bit grey (PNG), 200 to 290 pixels a side. An asset (`group`)
    has one to three images, either all sound or all with the same type of defect. Masks are 8-bit
    PNG, 255 where the damage is visible. Two files that are no images follow, labelled `unknown`.
    The same arguments give the same bytes on the same library versions.

    Args:
        folder: created if missing; files with the same names are overwritten.
        seed: of all random draws.
        normal: number of sound images.
        anomalous: number of damaged images.

    Returns:
        The path of `listing.csv`, whose `uri` and `mask_uri` are relative to it.
    """
    root = Path(folder)
    rows: list[dict[str, str]] = []
    taken: dict[tuple[int, int, str], int] = {}
    for asset in _assets(seed, normal, anomalous):
        for shot in range(asset.images):
            place = asset.site, asset.day, asset.camera.name
            taken[place] = taken.get(place, 0) + 1
            rows.append(_write_view(root, asset, shot, taken[place]))
    rows += _write_odd_files(root, seed)
    root.mkdir(parents=True, exist_ok=True)
    listing = root / "listing.csv"
    with listing.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(listing)


def photograph(asset: Asset, shot: int) -> View:
    """Render one image of an asset; `shot` counts from 0."""
    shared = np.random.default_rng(asset.seed)
    rng = np.random.default_rng((*asset.seed, shot + 1))
    size = _size(shared)
    sound = _surface(shared, rng, size, asset)
    light = _light(rng, size, asset)
    clean = expose(textures.render(sound, light), asset.camera)
    if not asset.defect:
        return View(digitise(rng, clean, asset.camera), np.zeros(size, np.bool_))
    severity, scale = rng.uniform(0.5, 1.1) if rng.random() < 0.7 else rng.uniform(0.2, 0.45), 1.0
    while True:
        damaged = PAINTERS[asset.defect](rng, sound, severity, scale)
        exposed = expose(textures.render(damaged, light), asset.camera)
        change = np.abs(tone(exposed) - tone(clean))
        mask = (change if change.ndim == 2 else change.max(axis=2)) > VISIBLE
        if mask.mean() >= MIN_MARKED:
            return View(digitise(rng, exposed, asset.camera), mask)
        severity, scale = 1.08 * severity, 1.15 * scale


def _assets(seed: int, normal: int, anomalous: int) -> Iterator[Asset]:
    """Sound and damaged assets in random order, both spread evenly over sites, dates and cameras."""
    rng = np.random.default_rng(seed)
    lots = [(False, images) for images in _lots(rng, normal)]
    lots += [(True, images) for images in _lots(rng, anomalous)]
    places: dict[bool, list[int]] = {False: [], True: []}
    turns = dict.fromkeys((camera.name for camera in CAMERAS), 0)
    for number, lot in enumerate(rng.permutation(len(lots)), start=1):
        damaged, images = lots[lot]
        places[damaged] = places[damaged] or rng.permutation(len(SITES) * len(DAYS) * len(CAMERAS)).tolist()
        rest, which = divmod(places[damaged].pop(), len(CAMERAS))
        site, day = divmod(rest, len(DAYS))
        camera, defect = CAMERAS[which], ""
        if damaged:
            defect = camera.defects[turns[camera.name] % len(camera.defects)]
            turns[camera.name] += 1
        kind = "panel" if camera.surface == PAINTED else "plate"
        start = FIRST_DAY + timedelta(days=DAYS[day], minutes=4 * number % WORKING_MINUTES)
        yield Asset(f"{kind}-{number:03d}", (seed, number), camera, site, day, defect, images, start)


def _lots(rng: np.random.Generator, images: int) -> Iterator[int]:
    """Numbers from 1 to 3 that add up to `images`."""
    while images:
        lot = min(images, int(rng.integers(1, 4)))
        images -= lot
        yield lot


def _size(rng: np.random.Generator) -> Size:
    """Sides of 200 to 290 pixels, never a multiple of 64; one image in three is not square."""
    height, width = (int(side) + (side == 256) for side in rng.integers(200, 291, 2))
    return (height, width) if rng.random() < 1 / 3 else (height, height)


def _surface(shared: np.random.Generator, rng: np.random.Generator, size: Size, asset: Asset) -> Surface:
    if asset.camera.surface == PAINTED:
        base = ((0.24, 0.34, 0.40), (0.50, 0.49, 0.42))[asset.site]
        colour = np.asarray(base) * shared.normal(1, 0.03) * shared.normal(1, 0.012, 3)
        joint = ("rivets", "weld", "plain")[shared.integers(3)]
        style = PaintStyle(tuple(colour), peel=shared.uniform(0.05, 0.085), joint=joint)
        return textures.painted_steel(rng, size, style)
    ground = asset.camera.deep
    finish = SteelStyle(
        tone=shared.normal(0.40, 0.015),
        tint=tuple(np.array([1.0, 1.0, 1.015]) * shared.normal(1, 0.006, 3)),
        angle=shared.normal(np.pi / 2 if ground else 0, 0.05),
        bend=shared.choice((-1, 1)) * shared.uniform(2e-4, 5e-4) if ground else 0.0,
        coarseness=shared.uniform(1.2, 1.6) if ground else shared.uniform(0.9, 1.2),
        contrast=shared.uniform(0.11, 0.14) if ground else shared.uniform(0.07, 0.10),
    )
    return textures.brushed_steel(rng, size, finish)


def _light(rng: np.random.Generator, size: Size, asset: Asset) -> Light:
    """The lamp of a site on one day: its brightness and colour drift from day to day."""
    daily = np.random.default_rng((asset.seed[0], asset.site, asset.day, CAMERAS.index(asset.camera), 7))
    gain = daily.normal(1, 0.04) * rng.normal(1, 0.01)
    tint = np.asarray(gain * (1 + daily.normal(0, 0.012, 3)), np.float32)
    azimuth = (-2.2, -0.8)[asset.site] + daily.normal(0, 0.1)
    return Light(azimuth, 0.9, textures.lighting(rng, size, tint, spread=0.25))


def _write_view(root: Path, asset: Asset, shot: int, number: int) -> dict[str, str]:
    view = photograph(asset, shot)
    taken_at = asset.start + timedelta(seconds=25 * shot)
    name = f"{SITES[asset.site]}/{taken_at:%Y-%m-%d}/{asset.camera.name}_{number:03d}"
    uri, mask_uri = f"images/{name}{asset.camera.suffix}", ""
    _write(root / uri, encode(view.pixels, asset.camera.suffix))
    if asset.defect:
        mask_uri = f"masks/{name}_mask.png"
        _write(root / mask_uri, encode(view.mask.astype(np.uint8) * np.uint8(255), ".png"))
    return _row(uri, "anomalous" if asset.defect else "normal", mask_uri, asset, taken_at)


def _row(uri: str, label: str, mask_uri: str, asset: Asset, taken_at: datetime) -> dict[str, str]:
    about = asset.defect, asset.name, taken_at.isoformat()
    values = (uri, label, mask_uri, *about, SITES[asset.site], asset.camera.name, asset.camera.surface)
    return dict(zip(COLUMNS, values, strict=True))


def _write_odd_files(root: Path, seed: int) -> list[dict[str, str]]:
    """A PNG whose transfer broke off, and a text saved under the name of an image."""
    camera, day = CAMERAS[0], len(DAYS) - 1
    start = FIRST_DAY + timedelta(days=DAYS[day], hours=11)
    asset = Asset("plate-cut-off", (seed, 0), camera, 0, day, "", 1, start)
    whole = encode(photograph(asset, 0).pixels, ".png")
    note = b"Camera offline 17:20-17:45, lens cleaned. No pictures taken.\n"
    rows = []
    for name, content in (("truncated", whole[: len(whole) * 2 // 5]), ("note", note)):
        uri = f"images/{SITES[0]}/{start:%Y-%m-%d}/{camera.name}_{name}.png"
        _write(root / uri, content)
        rows.append(_row(uri, "unknown", "", asset, start))
    return rows


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
