"""Defects, painted into the relief and the reflectance of a surface before it is lit.

Every painter takes a random generator, the sound surface, a severity (1 is plain to see, 0.4 is subtle) and a
factor of size, and returns the damaged surface.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.noise import Plane, Size, blur, coordinates, fractal, mix, noise, ramp
from raysvq.sample.textures import Surface

Painter = Callable[[np.random.Generator, Surface, float, float], Surface]

DARK_RUST = np.array([0.065, 0.026, 0.014], np.float32)
BROWN_RUST = np.array([0.20, 0.075, 0.024], np.float32)
ORANGE_RUST = np.array([0.45, 0.17, 0.040], np.float32)
BARE_METAL = np.array([0.55, 0.54, 0.52], np.float32)
SOOT = np.array([0.035, 0.033, 0.032], np.float32)
STAINED = np.array([0.86, 0.55, 0.30], np.float32)  # factor of the colour below where rust water ran
WARMER = np.array([0.05, -0.03, -0.12], np.float32)
OIL_ABSORBS = np.array([1.25, 1.5, 1.9], np.float32)


def pitting(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    """Clusters of small irregular pits with raised bright rims in a faintly stained field."""
    size = surface.height.shape
    rough = noise(rng, size, 3.0)
    depth, dark, rim, crowd = (np.zeros(size, np.float32) for _ in range(4))
    for centre in _places(rng, size, int(rng.integers(1, 3)), margin=0.16):
        spread = scale * rng.uniform(10, 26)
        count = int(spread * rng.uniform(0.6, 1.3))
        lean = rng.uniform(0.5, 1.0)
        crowd += _spot(size, centre, 1.5 * spread)
        for at in rng.normal(centre, (spread * lean, spread), (count, 2)):
            radius = float(np.clip(rng.lognormal(0.4, 0.5), 0.8, 5.0)) * scale**0.3
            window, distance = _window(size, at, 2.4 * radius + 3)
            ratio = distance / radius * (1 + 0.2 * rough[window])
            bowl = np.maximum(1 - (ratio / 1.25) ** 2, 0)
            depth[window] = np.maximum(depth[window], radius * bowl)
            dark[window] = np.maximum(dark[window], rng.uniform(0.6, 1.0) * np.sqrt(bowl))
            rim[window] = np.maximum(rim[window], np.exp(-(((ratio - 1.4) / 0.3) ** 2)))
    rim *= 1 - ramp(depth, 0.0, 0.3)
    stain = np.minimum(crowd, 1) * ramp(fractal(rng, size, 22), -1.2, 1.5)
    loss = (1 - (0.5 + 0.5 * severity) * dark) * (1 - 0.10 * severity * stain) * (1 + 0.45 * severity * rim)
    warmth = (np.clip(dark, 0, 1) + 0.4 * stain)[..., None] * WARMER
    return Surface(
        np.asarray(surface.albedo * np.maximum(loss, 0.05)[..., None] * (1 + warmth), np.float32),
        np.asarray(surface.height - severity * (0.8 * depth - 0.3 * rim), np.float32),
        np.asarray(surface.gloss * (1 - np.clip(dark, 0, 1)), np.float32),
    )


def rust(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    """Irregular brown to orange blooms, scaly inside, with runs below them and a stained fringe."""
    size = surface.height.shape
    field = np.full(size, -9.0, np.float32)
    ragged = fractal(rng, size, 26, octaves=5)
    for centre in _weak_places(rng, surface, int(rng.integers(1, 4))):
        radius = scale * 21 * rng.uniform(0.3, 1.0) ** 1.3 * (0.6 + 0.4 * severity)
        stretch = rng.uniform(0.7, 1.4)
        field = np.maximum(field, 1 - _distance(size, centre, stretch) / radius)
    field += np.float32(0.42) * ragged - 0.9 * ramp(field, -0.4, -0.9)
    bloom = ramp(field, -0.02, 0.16)
    speckle = ramp(field + 0.45 * noise(rng, size, 2.6), 0.18, 0.3) * ramp(field, -0.75, -0.2)
    cover = np.maximum(bloom, 0.85 * speckle) * np.float32(min(1.0, 0.55 + 0.5 * severity))
    runs = _runs(rng, bloom) * np.float32(0.55 * severity)
    fringe = ramp(blur(bloom, 4.0), 0.0, 0.5) * np.float32(0.30 * severity)
    crust = fractal(rng, size, 9, octaves=4)
    colour = _rust_colour(crust + np.float32(0.9) * ramp(field, 0.1, 0.9) - np.float32(0.2))
    wet = np.maximum(runs, fringe)[..., None]
    stained = np.asarray(surface.albedo * (1 - wet * (1 - STAINED)), np.float32)
    relief = ramp(field, -0.08, 0.06) * ramp(field, 0.34, 0.1) + 0.55 * crust * cover
    return Surface(
        mix(stained, colour, cover[..., None]),
        np.asarray(surface.height * (1 - 0.6 * cover) + severity * relief, np.float32),
        np.asarray(surface.gloss * (1 - cover) * (1 - 0.5 * runs), np.float32),
    )


def scratch(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    """One to three gouges down to bare metal, with a burr along one side and chatter in the groove."""
    size = surface.height.shape
    groove, burr, bare, wall = (np.zeros(size, np.float32) for _ in range(4))
    heading = rng.choice((-1, 1)) * rng.uniform(0.45, 1.1)
    centre = _places(rng, size, 1, margin=0.25)[0]
    width = scale**0.5 * rng.uniform(1.4, 2.6) * (0.6 + 0.4 * severity)
    length = scale * rng.uniform(80, 200)
    for _ in range(rng.integers(1, 4)):
        along, across = _bent_line(size, centre, heading, rng.normal(0, 0.0016))
        reach = length * rng.uniform(0.55, 1.0) / 2
        taper = ramp(np.abs(along), reach, 0.5 * reach)
        chatter = 1 + 0.2 * noise(rng, (2 * max(size), 1), 4)[(along + max(size)).astype(np.intp), 0]
        u = (across + 0.25 * noise(rng, size, 12)) / (width * np.maximum(0.3 + 0.7 * taper, 0.1))
        taper *= np.clip(chatter, 0.6, 1.3)
        groove = np.maximum(groove, taper * np.exp(-(u**4)))
        burr = np.maximum(burr, taper * np.exp(-(((u - 1.5) / 0.5) ** 2)))
        bare = np.maximum(bare, taper * np.exp(-(((u - 0.25) / 0.6) ** 2)))
        wall = np.maximum(wall, taper * np.exp(-(((u + 0.75) / 0.4) ** 2)))
        centre = centre + rng.normal(0, 7, 2)
        heading += rng.normal(0, 0.05)
        width *= rng.uniform(0.5, 0.9)
    metal = np.clip(bare * (0.45 + 0.6 * severity), 0, 1)
    shine = BARE_METAL * (1.1 + 0.15 * noise(rng, size, 1.5))[..., None]
    opened = mix(surface.albedo, np.asarray(shine, np.float32), metal[..., None])
    shadow = np.clip(wall + 0.3 * burr, 0, 1) * np.float32(min(0.85, 0.4 + 0.5 * severity)) * (1 - metal)
    return Surface(
        np.asarray(opened * (1 - shadow)[..., None], np.float32),
        np.asarray(surface.height + severity * width * (0.5 * burr - 0.9 * groove), np.float32),
        np.asarray(surface.gloss + 0.3 * severity * metal, np.float32),
    )


def contamination(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    """A dark oily blot, or weld spatter: beads that sit on the surface in sooty, heat-tinted halos."""
    return (_blot if rng.random() < 0.5 else _spatter)(rng, surface, severity, scale)


def _blot(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    size = surface.height.shape
    field = np.full(size, -9.0, np.float32)
    centre = _places(rng, size, 1, margin=0.25)[0]
    for drop in range(rng.integers(2, 9)):
        radius = scale * (rng.uniform(7, 22) if drop == 0 else rng.uniform(2, 7))
        at = centre if drop == 0 else centre + rng.normal(0, 18 * scale, 2)
        field = np.maximum(field, 1 - _distance(size, at, rng.uniform(0.8, 1.25)) / np.float32(radius))
    field += 0.22 * fractal(rng, size, 34, octaves=4)
    body = ramp(field, -0.02, 0.16)
    rim = np.exp(-(((field - 0.1) / 0.09) ** 2))
    pooled = 0.30 + 0.65 * ramp(fractal(rng, size, 20), -1.6, 1.6) + 0.3 * ramp(field, 0.1, 0.9)
    thick = np.float32(severity) * (body * pooled + 0.22 * rim)
    through = np.exp(-np.clip(thick, 0, 2)[..., None] * OIL_ABSORBS)
    return Surface(
        np.asarray(surface.albedo * through, np.float32),
        np.asarray(mix(surface.height, blur(surface.height, 2.0), body) + 1.2 * body, np.float32),
        np.asarray(surface.gloss + 0.10 * body, np.float32),
    )


def _spatter(rng: np.random.Generator, surface: Surface, severity: float, scale: float) -> Surface:
    size = surface.height.shape
    beads, halo = np.zeros(size, np.float32), np.zeros(size, np.float32)
    centre = _places(rng, size, 1, margin=0.25)[0]
    for at in rng.normal(centre, (scale * 20, scale * 30), (int(scale * rng.integers(5, 24)), 2)):
        radius = float(np.clip(rng.lognormal(0.6, 0.45), 1.0, 5.5))
        window, distance = _window(size, at, 4.5 * radius)
        dome = radius * np.sqrt(np.maximum(1 - (distance / radius) ** 2, 0))
        beads[window] = np.maximum(beads[window], dome)
        halo[window] = np.maximum(halo[window], np.exp(-((distance / (1.9 * radius)) ** 2)))
    bead = np.clip(1.5 * beads, 0, 1)
    scorched = mix(surface.albedo, SOOT, (0.75 * severity * halo)[..., None])
    metal = (BARE_METAL * 0.32) * (1 + 0.25 * noise(rng, size, 2))[..., None]
    return Surface(
        mix(scorched, np.asarray(metal, np.float32), bead[..., None]),
        np.asarray(surface.height + 0.8 * blur(beads, 0.6), np.float32),
        np.asarray(surface.gloss * (1 - halo) + 0.45 * bead, np.float32),
    )


def _places(rng: np.random.Generator, size: Size, count: int, margin: float) -> npt.NDArray[np.float64]:
    """(count, 2) random rows and columns; `margin` is the least distance from the border, in sides."""
    return rng.uniform(margin, 1 - margin, (count, 2)) * size


def _weak_places(rng: np.random.Generator, surface: Surface, count: int) -> npt.NDArray[np.float64]:
    """Like `_places`, but mostly where the relief is steep: paint is thin on rivets and welds."""
    slope_y, slope_x = np.gradient(surface.height)
    steep = blur(np.hypot(slope_y, slope_x), 4.0)
    places = _places(rng, surface.height.shape, 5 * count, margin=0.12)
    rows, columns = places.astype(np.intp).T
    return places[np.argsort(-steep[rows, columns], kind="stable")[:count]]


def _distance(size: Size, centre: npt.NDArray[np.float64], stretch: float = 1.0) -> Plane:
    rows, columns = coordinates(size)
    return np.asarray(np.hypot((rows - centre[0]) / stretch, (columns - centre[1]) * stretch), np.float32)


def _spot(size: Size, centre: npt.NDArray[np.float64], radius: float) -> Plane:
    return np.asarray(np.exp(-((_distance(size, centre) / radius) ** 2)), np.float32)


def _window(size: Size, centre: npt.NDArray[np.float64], reach: float) -> tuple[tuple[slice, slice], Plane]:
    """The part of the image within `reach` of a point, and the distances there."""
    top, left = (max(0, int(c - reach)) for c in centre)
    bottom, right = (max(0, min(side, int(c + reach) + 2)) for c, side in zip(centre, size, strict=True))
    window = slice(top, max(top, bottom)), slice(left, max(left, right))
    rows, columns = np.mgrid[window]
    return window, np.hypot(rows - centre[0], columns - centre[1]).astype(np.float32)


def _bent_line(
    size: Size, centre: npt.NDArray[np.float64], heading: float, bend: float
) -> tuple[Plane, Plane]:
    """Positions along and across a slightly curved line through `centre`, in pixels."""
    rows, columns = coordinates(size)
    y, x = rows - centre[0], columns - centre[1]
    along = x * np.cos(heading) + y * np.sin(heading)
    across = y * np.cos(heading) - x * np.sin(heading) + bend * along**2
    limit = max(size) - 1
    return np.clip(along, -limit, limit).astype(np.float32), across.astype(np.float32)


def _rust_colour(depth: Plane) -> Plane:
    """(H, W, 3) from orange (below -1) over brown to nearly black (above 1.5)."""
    orange = np.broadcast_to(ORANGE_RUST, (*depth.shape, 3))
    light = mix(orange, BROWN_RUST, ramp(depth, -1.1, 0.5)[..., None])
    return mix(light, DARK_RUST, ramp(depth, 0.4, 1.7)[..., None])


def _runs(rng: np.random.Generator, bloom: Plane) -> Plane:
    """Rust that rain has washed down from a bloom: narrow vertical streaks that fade."""
    height, width = bloom.shape
    reach = rng.uniform(14, 55)
    columns = np.maximum(noise(rng, (1, width), 4.5), 0) * 0.7
    source = bloom * columns
    decay = np.float32(np.exp(-1 / reach))
    washed = np.empty_like(bloom)
    carried = np.zeros(width, np.float32)
    for row in range(height):
        carried = np.maximum(carried * decay, source[row])
        washed[row] = carried
    return np.minimum(np.asarray(cv2.GaussianBlur(washed, (0, 0), 0.9), np.float32), 1)
