"""Figures on images that a model has not learnt from, as its card shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from raysvq.data.training_set import HeldOutlier, ImagesSeen
from raysvq.evaluation.bootstrap import bootstrap_intervals
from raysvq.evaluation.defects import measure_mask
from raysvq.evaluation.metrics import auroc_of_counts
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.masks import decode_mask
from raysvq.model.card.resolution import advice
from raysvq.model.network import cell_size
from raysvq.settings import EvaluationSettings, Settings
from raysvq.storage import read_bytes

_HINTED = 32  # masks that are read for the hint at resolution
MAX_OUTLIERS = 256  # whose scores are kept: those with the smallest ids


def held_out(outcome: Mapping[str, Any], settings: EvaluationSettings) -> dict[str, Any]:
    """What the card needs of the images that calibrate, as plain values.

    Args:
        outcome: of `raysvq.training.validation.outcome_of`.

    Returns:
        `auroc_interval` over units, None where it is not known; its `confidence`; and `outliers`, scores and
        defects of anomalous images.
    """
    labels = np.array(outcome["anomalous"], bool)
    interval = None
    if labels.any() and not labels.all():
        intervals = bootstrap_intervals(
            labels,
            np.array(outcome["image_scores"], np.float32),
            outcome["units"],
            [auroc_of_counts],
            resamples=settings.bootstrap,
            confidence=settings.confidence,
        )
        interval = list(intervals[0]) if intervals else None
    return {
        "auroc_interval": interval,
        "confidence": settings.confidence,
        "outliers": [one.plain() for one in _outliers(outcome, labels)],
    }


def _outliers(outcome: Mapping[str, Any], labels: np.ndarray[Any, Any]) -> list[HeldOutlier]:
    places = sorted(np.flatnonzero(labels).tolist(), key=lambda place: outcome["image_ids"][place])
    places = places[:MAX_OUTLIERS]
    masks = outcome.get("masks") or [None] * len(labels)  # a checkpoint of an earlier version has none
    with ThreadPoolExecutor(8) as pool:
        defects = list(pool.map(_defect, [masks[place] for place in places]))
    return [
        HeldOutlier(outcome["image_scores"][place], outcome["groups"][place], *defect)
        for place, defect in zip(places, defects, strict=True)
    ]


def hint_at_resolution(mask_uris: Sequence[str | None], settings: Settings) -> str | None:
    """A hint where the defects of labelled outliers are too small for the resolution; else None."""
    if settings.tiles.mode == "tiles":
        return None
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(_defect, mask_uris[:_HINTED]))
    known = [(pixels, size) for pixels, size in found if pixels is not None and size is not None]
    hint = advice(known, settings.tiles, cell_size(settings.model))
    return None if hint is None else f"hint: {hint}"


def _defect(mask_uri: str | None) -> tuple[int, tuple[int, int]] | tuple[None, None]:
    """Pixels of the largest defect that a mask marks, and the mask's size; None where it cannot be told."""
    if mask_uri is None:
        return None, None
    try:
        mask = decode_mask(read_bytes(mask_uri))
    except (DecodeError, OSError):
        return None, None
    if not mask.any():
        return None, None
    return measure_mask(mask).largest, (mask.shape[1], mask.shape[0])


def images_seen(outcome: Mapping[str, Any]) -> ImagesSeen | None:
    """Sizes and channels of the normal images that were scored; None where none was measured."""
    looks = outcome.get("reference") or []
    sizes = sorted(
        ((one["width"], one["height"]) for one in looks), key=lambda size: (size[0] * size[1], size)
    )
    if not sizes:
        return None
    grey = sum(one["warmth"] is None for one in looks)
    return ImagesSeen(len(sizes), grey, sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1])
