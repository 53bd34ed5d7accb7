"""Charts and pictures of a model's encodings and codes, for the page of an evaluation."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from raysvq.imaging.overlay import encode_jpeg
from raysvq.report.svg import Chart, area, figure, line, linear_axis, log_axis

if TYPE_CHECKING:
    from raysvq.model.latents import Latents

_WIDTH, _HEIGHT, _MARGIN = 520, 300, 12  # of the plane
_ARM = 4.0  # of the mark of a code
_BINS = 40  # of the histogram of distances
_WIDE = 10  # distances with a larger ratio of largest to smallest get logarithmic bins
_MOST_USED, _MOST_MARKED = 24, 12  # cards
_MOST = 0.8  # of the marked positions, whose codes are counted
_LONGEST = 8  # images that were left out and are named


@dataclass(frozen=True)
class CodeCard:
    """A code: how many positions use it, how far from it they lie, patches of some of them."""

    number: int
    shares: tuple[float, float]  # of the normal positions, of the marked ones, 0 to 1
    distances: tuple[float, float]  # mean; NaN where none uses it
    strip: str  # data URI of patches side by side: the nearest normal positions, the farthest marked one
    nearest: int  # patches of normal positions
    farthest: bool  # whether the last patch is of a marked position


@dataclass(frozen=True)
class LatentsView:
    """What `latents.html` shows."""

    encoder: str
    projection: str
    images: tuple[int, int]  # normal, anomalous
    unmasked: int
    positions: tuple[int, int]  # normal, marked
    points: tuple[int, int]
    plane: Chart | None  # None without a position
    distances: Chart | None
    most_used: tuple[CodeCard, ...]  # by normal positions
    most_marked: tuple[CodeCard, ...]  # by marked positions
    codebook_size: int
    codes_used: tuple[int, int]  # by normal, by marked positions
    codes_of_most: int  # codes that most of the marked positions use
    named: tuple[tuple[str, str], ...]  # (URI, why) of the first images that were left out
    left_out: int


def view_latents(latents: Latents) -> LatentsView:
    """Draw the charts and pictures."""
    normal, marked = latents.uses
    cards = list(_cards(latents))
    by_marks = sorted((card for card in cards if card.shares[1]), key=lambda card: -card.shares[1])
    running = np.sort(marked)[::-1].cumsum()
    drawn = int(latents.marked.sum())
    return LatentsView(
        encoder=latents.encoder,
        projection=latents.projection,
        images=latents.images,
        unmasked=latents.unmasked,
        positions=(int(normal.sum()), int(marked.sum())),
        points=(len(latents.marked) - drawn, drawn),
        plane=_plane(latents),
        distances=_distances(latents),
        most_used=tuple(card for card in cards if card.shares[0])[:_MOST_USED],
        most_marked=tuple(by_marks[:_MOST_MARKED]),
        codebook_size=len(normal),
        codes_used=(int((normal > 0).sum()), int((marked > 0).sum())),
        codes_of_most=int((running < _MOST * running[-1]).sum()) + 1 if marked.any() else 0,
        named=latents.skipped[:_LONGEST],
        left_out=len(latents.skipped),
    )


def _plane(latents: Latents) -> Chart | None:
    """Encodings as dots, codes as crosses; without axes, as their directions mean nothing."""
    if not len(latents.points):
        return None
    both = np.concatenate([latents.points, latents.code_points]).astype(np.float64)
    low, high = both.min(axis=0), both.max(axis=0)
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    scale = (room / np.maximum(high - low, 1e-12)).min()
    placed = (both - (low + high) / 2) * scale + np.array([_WIDTH, _HEIGHT]) / 2
    dots, codes = placed[: len(latents.points)], placed[len(latents.points) :]
    title = f"{latents.projection} of encodings: normal positions, marked positions and codes"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">',
        _dots(dots[~latents.marked], "normal"),
        _dots(dots[latents.marked], "anomalous"),
        *_crosses(latents, codes),
        "</svg>",
    ]
    legend = [("normal", "normal positions"), ("anomalous", "marked positions"), ("code", "codes")]
    if not latents.marked.any():
        del legend[1]
    return Chart(Markup("".join(parts)), tuple(legend))


def _dots(points: npt.NDArray[np.float64], css: str) -> str:
    """Points as one path: a line without length shows its round ends."""
    path = "".join(f"M{across:.1f} {down:.1f}h0" for across, down in points)
    return f'<path class="spots {css}" d="{path}"/>'


def _crosses(latents: Latents, points: npt.NDArray[np.float64]) -> Iterator[str]:
    totals = latents.uses.sum(axis=1)
    for code, (across, down) in zip(latents.code_numbers.tolist(), points, strict=True):
        normal, marked = (latents.uses[:, code] / np.maximum(totals, 1)).tolist()
        tip = f"code {code}: {normal:.1%} of the normal positions"
        tip += f", {marked:.1%} of the marked ones" if totals[1] else ""
        arms = f"M{across - _ARM:.1f} {down:.1f}h{2 * _ARM:g}m-{_ARM:g}-{_ARM:g}v{2 * _ARM:g}"
        yield f'<path class="cross" d="{arms}"><title>{tip}</title></path>'


def _distances(latents: Latents) -> Chart | None:
    """Histogram of the distances of the points, in shares of the normal and of the marked ones."""
    if not len(latents.distances):
        return None
    low, high = float(latents.distances.min()), float(latents.distances.max())
    logarithmic = low > 0 and high > _WIDE * low
    edges = np.geomspace(low, high, _BINS + 1) if logarithmic else np.linspace(low, high or 1.0, _BINS + 1)
    edges[[0, -1]] = low, max(high, edges[-1])
    kinds = {"normal": ~latents.marked, "anomalous": latents.marked}
    heights = {
        css: 100 * np.histogram(latents.distances[which], edges)[0] / which.sum()
        for css, which in kinds.items()
        if which.any()
    }
    axis = log_axis if logarithmic else linear_axis
    x = axis(float(edges[0]), float(edges[-1]), "distance to the nearest code")
    y = linear_axis(0, float(max(shares.max() for shares in heights.values())), "share of positions, %")
    elements = []
    for css, shares in heights.items():
        corners = _corners(edges.tolist(), shares.tolist())
        elements += [area(x, y, corners, css), line(x, y, corners, css)]
    names = {"normal": "normal positions", "anomalous": "marked positions"}
    title = "Histogram of distances to the nearest code, normal against marked positions"
    return Chart(figure(x, y, elements, title), tuple((css, names[css]) for css in heights))


def _corners(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    inside = [(edge, height) for at, height in enumerate(heights) for edge in edges[at : at + 2]]
    return [(edges[0], 0.0), *inside, (edges[-1], 0.0)]


def _cards(latents: Latents) -> Iterator[CodeCard]:
    shares = latents.uses / np.maximum(latents.uses.sum(axis=1, keepdims=True), 1)
    for code, patches, filled in zip(latents.shown.tolist(), latents.patches, latents.filled, strict=True):
        yield CodeCard(
            number=code,
            shares=(float(shares[0, code]), float(shares[1, code])),
            distances=(float(latents.mean_distances[0, code]), float(latents.mean_distances[1, code])),
            strip=_data_uri(np.concatenate(patches[filled], axis=1)),
            nearest=int(filled[:-1].sum()),
            farthest=bool(filled[-1]),
        )


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, max(pixels.shape))).decode()
