"""Sound surfaces: brushed and ground steel, painted panels, and the light that falls on them.

A surface is a relief with reflectance, which `render` lights. Everything that changes the relief (rivets,
welds, pits, gouges) is shaded by the same light, so that it looks solid.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from raysvq.imaging.noise import Plane, Size, blur, coordinates, fractal, mix, noise, ramp, stretched

BRUSHED, PAINTED = "brushed_steel", "painted_steel"


@dataclass(frozen=True)
class Surface:
    """What a camera photographs.

    Attributes:
        albedo: (H, W, 3) linear reflectance, 0 to 1.
        height: (H, W) relief in pixels, up towards the camera.
        gloss: (H, W) strength of the highlight.
    """

    albedo: Plane
    height: Plane
    gloss: Plane


@dataclass(frozen=True)
class Light:
    """One lamp at infinity, and how its brightness varies over the image.

    Attributes:
        azimuth: direction of the lamp in radians; 0 is right, and it grows clockwise in the image.
        elevation: radians above the surface.
        field: (H, W, 3) irradiance, about 1.
    """

    azimuth: float
    elevation: float
    field: Plane


@dataclass(frozen=True)
class SteelStyle:
    """How one plate was finished.

    Attributes:
        tone: mean reflectance.
        tint: RGB factors.
        angle: radians, direction of the brush strokes.
        bend: curvature of the strokes, 1/pixels.
        coarseness: pixels across a stroke.
        contrast: standard deviation of the log reflectance between strokes.
    """

    tone: float
    tint: tuple[float, float, float]
    angle: float
    bend: float
    coarseness: float
    contrast: float


@dataclass(frozen=True)
class PaintStyle:
    """How one panel was painted and joined.

    Attributes:
        colour: linear RGB.
        peel: relief of the orange peel, pixels.
        joint: `rivets`, `weld` or `plain`.
    """

    colour: tuple[float, float, float]
    peel: float
    joint: str


def render(surface: Surface, light: Light) -> Plane:
    """(H, W, 3) linear radiance: diffuse plus a Blinn-Phong highlight under one distant lamp."""
    slope_y, slope_x = np.gradient(surface.height)
    up = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    level, rise = np.cos(light.elevation), np.sin(light.elevation)
    towards = slope_x * np.cos(light.azimuth) + slope_y * np.sin(light.azimuth)
    diffuse = np.maximum((rise + level * towards) * up, 0) / rise
    half = np.sqrt(2 + 2 * rise)
    facing = np.maximum((level * towards + rise + 1) * up / half, 0)
    highlight = surface.gloss * facing**40
    shaded = surface.albedo * (0.35 + 0.65 * diffuse)[..., None] + highlight[..., None]
    return np.asarray(shaded * light.field, np.float32)


def lighting(rng: np.random.Generator, size: Size, tint: Plane, spread: float) -> Plane:
    """(H, W, 3) irradiance: a soft gradient of relative size `spread`, coloured by `tint` (3,)."""
    rows, columns = coordinates(size)
    y, x = rows / size[0] - 0.5, columns / size[1] - 0.5
    direction = rng.uniform(0, 2 * np.pi)
    slope = spread * rng.uniform(0.4, 1.0) * (x * np.cos(direction) + y * np.sin(direction))
    vignette = -0.25 * spread * (x**2 + y**2)
    return np.asarray((1 + slope + vignette)[..., None] * tint, np.float32)


def brushed_steel(rng: np.random.Generator, size: Size, style: SteelStyle) -> Surface:
    """A brushed or ground plate with the faint scratches and the oil sheen that a sound one has."""
    strokes = _strokes(rng, size, style)
    tone = style.tone * np.exp(style.contrast * strokes) * (1 + 0.04 * noise(rng, size, 90))
    across = _along(size, style.angle)
    sheen_at = rng.uniform(-0.4, 0.4)
    tone *= 1 + rng.uniform(0.06, 0.16) * np.exp(-(((across - sheen_at) / 0.28) ** 2))
    tone *= 1 + _faint_scratches(rng, size, style.angle) + _dust(rng, size)
    albedo = tone[..., None] * np.asarray(style.tint, np.float32)
    albedo = _oil_sheen(rng, albedo, strength=rng.uniform(0.0, 1.0) ** 2)
    gloss = np.full(size, 0.05, np.float32)
    return Surface(albedo.astype(np.float32), 0.05 * strokes, gloss)


def painted_steel(rng: np.random.Generator, size: Size, style: PaintStyle) -> Surface:
    """A painted panel: orange peel, a little dust, and rivets or a weld seam as its style says."""
    peel = noise(rng, size, rng.uniform(3.5, 4.5)) + 0.4 * noise(rng, size, 8)
    height = style.peel * blur(peel, 0.7)
    tone = 1 + 0.035 * fractal(rng, size, 80) + 0.008 * noise(rng, size, 1.3) + _dust(rng, size)
    tone += _faint_scratches(rng, size, rng.uniform(0, np.pi))
    if style.joint == "rivets":
        bump, shade = _rivets(rng, size)
    elif style.joint == "weld":
        bump, shade = _weld(rng, size)
    else:
        bump, shade = np.zeros(size, np.float32), np.zeros(size, np.float32)
    albedo = (tone * (1 - shade))[..., None] * np.asarray(style.colour, np.float32)
    gloss = np.float32(0.16) * (1 - 0.7 * ramp(shade, 0, 0.3))
    return Surface(albedo.astype(np.float32), (height + bump).astype(np.float32), gloss.astype(np.float32))


def _along(size: Size, angle: float) -> Plane:
    """(H, W) position along a direction, about -0.5 to 0.5 from one edge to the other."""
    rows, columns = coordinates(size)
    y, x = rows - size[0] / 2, columns - size[1] / 2
    return np.asarray((x * np.cos(angle) + y * np.sin(angle)) / max(size), np.float32)


def _strokes(rng: np.random.Generator, size: Size, style: SteelStyle) -> Plane:
    side = int(np.hypot(*size)) + 4
    canvas, c = (side, side), style.coarseness
    straight = (
        0.6 * stretched(rng, canvas, (c, 14))
        + 0.8 * stretched(rng, canvas, (c, 70))
        + 0.6 * stretched(rng, canvas, (2.2 * c, 260))
        + 0.35 * stretched(rng, canvas, (14, 400))
        + 0.25 * stretched(rng, canvas, (1, 3))
        + 0.10 * stretched(rng, canvas, (1, 120)) ** 3
    )
    rows, columns = coordinates(size)
    y, x = rows - size[0] / 2, columns - size[1] / 2
    along = x * np.cos(style.angle) + y * np.sin(style.angle)
    across = y * np.cos(style.angle) - x * np.sin(style.angle) + style.bend * along**2
    source_x = (along + side / 2).astype(np.float32)
    source_y = (across + side / 2).astype(np.float32)
    bent = cv2.remap(straight, source_x, source_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(bent / bent.std(), np.float32)


def _faint_scratches(rng: np.random.Generator, size: Size, angle: float) -> Plane:
    lines = np.zeros(size, np.float32)
    for _ in range(rng.integers(0, 9)):
        start = rng.uniform(0, 1, 2) * (size[1], size[0])
        heading = angle + rng.normal(0, 0.25)
        end = start + rng.uniform(25, 140) * np.array([np.cos(heading), np.sin(heading)])
        one = np.zeros(size, np.float32)
        shift = 4
        ends = [tuple(int(v) for v in point * 2**shift) for point in (start, end)]
        cv2.line(one, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift)
        lines += rng.choice((-0.16, 0.20)) * rng.uniform(0.3, 1.0) * one
    return blur(lines, 0.6)


def _dust(rng: np.random.Generator, size: Size) -> Plane:
    """A few specks of one or two pixels, lighter or darker."""
    specks = np.zeros(size, np.float32)
    for sigma, strength in ((0.6, 0.9), (1.1, 2.6)):
        one = np.zeros(size, np.float32)
        count = rng.integers(0, 10)
        rows, columns = (rng.integers(0, side, count) for side in size)
        one[rows, columns] = strength * rng.choice((-1.0, 0.7), count) * rng.uniform(0.3, 1.0, count)
        specks += blur(one, sigma)
    return np.maximum(specks, np.float32(-0.6))


def _oil_sheen(rng: np.random.Generator, albedo: Plane, strength: float) -> Plane:
    """A thin oil film, which darkens a little and gives colours that depend on its thickness."""
    size = albedo.shape[:2]
    film = ramp(fractal(rng, size, 110, octaves=2), -0.2, 1.4) * np.float32(strength)
    thickness = 2.5 * noise(rng, size, 70)
    hues = np.stack([np.cos(thickness + phase) for phase in (0.0, 2.1, 4.2)], axis=2)
    return np.asarray(albedo * (1 - 0.16 * film[..., None] + 0.04 * film[..., None] * hues), np.float32)


def _rivets(rng: np.random.Generator, size: Size) -> tuple[Plane, Plane]:
    """A row of domed heads along one edge. Returns their relief, and the share of light lost around them."""
    rows, columns = coordinates(size)
    vertical = rng.random() < 0.5
    reach, depth = (size[0], size[1]) if vertical else (size[1], size[0])
    radius = rng.uniform(8.0, 9.5)
    pitch = rng.uniform(52, 62)
    line = rng.uniform(0.12, 0.2) * depth if rng.random() < 0.5 else rng.uniform(0.8, 0.88) * depth
    height, shade = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for at in np.arange(rng.uniform(-20, 30), reach + 20, pitch):
        centre_y, centre_x = (at, line) if vertical else (line, at)
        distance = np.hypot(rows - centre_y, columns - centre_x)
        head = np.sqrt(np.maximum(1 - (distance / radius) ** 2, 0))
        height += np.float32(0.42 * radius) * head
        shade += 0.45 * np.exp(-(((distance - radius - 0.8) / 1.6) ** 2))
    return blur(height, 0.9), np.minimum(shade, 0.6)


def _weld(rng: np.random.Generator, size: Size) -> tuple[Plane, Plane]:
    """A painted weld seam with ripples. Returns its relief, and the share of light lost along its edges."""
    rows, columns = coordinates(size)
    vertical = rng.random() < 0.5
    along, across = (rows, columns) if vertical else (columns, rows)
    reach = max(size)
    centre = rng.uniform(0.25, 0.75) * (size[1] if vertical else size[0])
    wander = 1.6 * stretched(rng, (reach, 1), (40, 1))[:, 0] + rng.normal(0, 0.02) * np.arange(reach)
    breadth = rng.uniform(11, 14) * (1 + 0.06 * stretched(rng, (reach, 1), (25, 1))[:, 0])
    step = along.astype(np.intp)
    t = (across - centre - wander[step]) / breadth[step]
    inside = np.maximum(1 - t**2, 0)
    spacing = np.cumsum(1 / rng.uniform(4.6, 6.0) * (1 + 0.15 * stretched(rng, (reach, 1), (9, 1))[:, 0]))
    ripples = np.sin(2 * np.pi * (spacing[step] + 0.9 * t**2))
    height = 3.2 * np.sqrt(inside) * inside + 0.42 * ripples * ramp(inside.astype(np.float32), 0, 0.5)
    toes = 0.22 * np.exp(-(((np.abs(t) - 1.0) / 0.10) ** 2))
    return blur(height.astype(np.float32), 0.7), mix(toes.astype(np.float32), 0.0, ramp(np.abs(t), 1.3, 1.6))
