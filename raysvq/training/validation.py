"""Scores of validation images during training, divided among the ranks."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch.distributed as dist

from raysvq.data.manifest import open_manifest
from raysvq.evaluation.metrics import image_auroc
from raysvq.imaging.decode import DecodeError
from raysvq.model.collective import world_size
from raysvq.model.device import relative_deviation
from raysvq.model.scorer import ImageScorer
from raysvq.schema import ANOMALOUS, NORMAL, VALIDATION
from raysvq.storage import ObjectInfo, read_bytes, read_version

_VALUES_PER_IMAGE = 4096  # map values sampled from each normal image for the pixel threshold
_COMPARED = 64  # images that are also scored in bfloat16


@dataclass(frozen=True)
class ValidationImage:
    """An image to score, and its label."""

    uri: str
    anomalous: bool
    mask_uri: str | None = None
    indexed: ObjectInfo | None = None  # required version; None: any

    def read(self) -> bytes:
        """The file's content.

        Raises:
            OSError: it cannot be read, or is another version than the one indexed.
        """
        if self.indexed is None:
            return read_bytes(self.uri)
        indexed = self.indexed
        return read_version(self.uri, indexed.size_bytes, indexed.etag, indexed.mtime)


def validation_images(manifest: str, limit: int) -> list[ValidationImage]:
    """Labelled validation images, at most `limit`: outliers up to half, then normal ones.

    Of more images the ones with the smallest ids are taken, the same in every run.
    """
    outliers = _first(manifest, ANOMALOUS, limit // 2)
    return outliers + _first(manifest, NORMAL, limit - len(outliers))


def _first(manifest: str, label: str, limit: int) -> list[ValidationImage]:
    wanted = (pc.field("split") == VALIDATION) & (pc.field("label") == label)
    names = ["image_id", "uri", "mask_uri", "size_bytes", "etag", "mtime"]
    rows = (
        row
        for batch in open_manifest(manifest).to_batches(columns=names, filter=wanted)
        for row in zip(*(batch[name].to_pylist() for name in names), strict=True)
    )
    chosen = heapq.nsmallest(limit, rows, key=lambda row: row[:2])
    return [
        ValidationImage(uri, label == ANOMALOUS, mask, ObjectInfo(uri, *version))
        for _, uri, mask, *version in chosen
    ]


def validate(
    scorer: ImageScorer,
    images: list[ValidationImage],
    rank: int = 0,
    require_decodable: Callable[[str, bytes], None] = lambda uri, content: None,
) -> dict[str, Any]:
    """Score every image, each on one rank; all ranks return the same.

    Args:
        require_decodable: raises DecodeError for an image that is not to be decoded in this process.

    Returns:
        `image_scores`, `anomalous`, `auroc` (None without both kinds), `pixel_threshold` (that
        `decision.pixel_false_alarm_rate` of a sample of the normal images' maps exceeds),
        `bfloat16_deviation` (the largest relative one over some of the images), `unreadable` URIs.
    """
    rng = np.random.default_rng([scorer.settings.training.seed, rank])
    quantile = 1 - scorer.settings.decision.pixel_false_alarm_rate
    in_bfloat16 = scorer.in_bfloat16()
    compared = range(0, len(images), -(-len(images) // _COMPARED))
    mine: list[tuple[float, bool]] = []
    values: list[Any] = []
    deviations: list[float] = []
    unreadable: list[str] = []
    for number in range(rank, len(images), world_size()):
        image = images[number]
        try:
            content = image.read()
            require_decodable(image.uri, content)
            result = scorer(content)
        except (DecodeError, OSError):
            unreadable.append(image.uri)
            continue
        mine.append((result.image_score, image.anomalous))
        if number in compared:
            deviations.append(relative_deviation(in_bfloat16(content).image_score, result.image_score))
        if not image.anomalous:
            cells = result.anomaly_map.ravel()
            values.append(rng.choice(cells, min(_VALUES_PER_IMAGE, cells.size), replace=False))
    scored, sampled, deviating, failed = (_gather(part) for part in (mine, values, deviations, unreadable))
    scores = np.array([score for score, _ in scored], np.float32)
    anomalous = np.array([label for _, label in scored], bool)
    return {
        "image_scores": scores.tolist(),
        "anomalous": anomalous.tolist(),
        "auroc": image_auroc(anomalous, scores) if anomalous.any() and not anomalous.all() else None,
        "pixel_threshold": float(np.quantile(np.concatenate(sampled), quantile)) if sampled else None,
        "bfloat16_deviation": max(deviating, default=None),
        "unreadable": failed,
    }


def _gather(items: list[Any]) -> list[Any]:
    """The items of all ranks, in rank order."""
    if world_size() == 1:
        return items
    parts: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
