"""Charts and pictures of a model's encodings and codes, for the page of an evaluation."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from raysvq.imaging.overlay import encode_jpeg
from raysvq.model.latents import Latents
from raysvq.report.svg import HEIGHT, WIDTH, Axis, Chart, bars, figure, linear_axis, place

_BINS = 30  # of the histogram of distances
_MOST_MARKED = 12  # cards of the codes that marked positions use most
_SHOWN_SIDE = 40  # pixels of a patch in the page
_SHARE_CODES = 0.8  # of the marked positions, whose codes are counted


@dataclass(frozen=True)
class CodeCard:
    """A code of the codebook: how much it is used, how far from it positions lie, patches of some."""

    number: int
    normal_share: float  # of the normal positions that use it, 0 to 1
    marked_share: float  # of the marked ones
    normal_distance: float | None  # mean
    marked_distance: float | None
    normal_patches: str | None  # data URI of a strip of patches, nearest first
    patches: int  # in the strip
    marked_patch: str | None  # data URI of the patch of the farthest marked position


@dataclass(frozen=True)
class LatentsView:
    """What `latents.html` shows."""

    latents: Latents
    scatter: Chart | None  # None without a position
    distances: Chart | None
    most_used: tuple[CodeCard, ...]  # by normal positions
    most_marked: tuple[CodeCard, ...]  # by marked positions
    codes_used: tuple[int, int]  # by normal, by marked positions
    codes_only_marked: int  # that no normal position uses
    codes_of_most_marked: int  # codes that _SHARE_CODES of the marked positions use


def view_latents(latents: Latents) -> LatentsView:
    """Draw the charts and pictures of the page."""
    normal, marked = latents.uses
    cards = list(_cards(latents))
    by_marks = sorted((card for card in cards if card.marked_share), key=lambda card: -card.marked_share)
    ranked = np.sort(marked)[::-1].cumsum()
    return LatentsView(
        latents=latents,
        scatter=_scatter(latents),
        distances=_distances(latents),
        most_used=tuple(card for card in cards if card.normal_share),
        most_marked=tuple(by_marks[:_MOST_MARKED]),
        codes_used=(int((normal > 0).sum()), int((marked > 0).sum())),
        codes_only_marked=int(((marked > 0) & (normal == 0)).sum()),
        codes_of_most_marked=int((ranked < _SHARE_CODES * ranked[-1]).sum()) + 1 if marked.any() else 0,
    )
