"""Heat-map overlays of the highest-scored images."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import encode_jpeg, overlay, to_rgb8, upsample
from raysvq.model.bundle import load_bundle
from raysvq.model.scorer import ImageScorer
from raysvq.settings import ScoringSettings, StorageSettings
from raysvq.storage import configure, join, read_bytes, write_bytes

MAX_SIDE = 1600  # of an overlay, pixels


def write_heatmaps(
    worst: list[list[Any]], model: str, scoring: ScoringSettings, out: str, storage: StorageSettings
) -> list[str]:
    """Write an overlay for each (score, image_id, uri), named by rank, in one Ray task.

    An image that is gone since it was scored has none.

    Returns:
        Their URIs, worst first.
    """
    if not worst:
        return []
    uris: list[str] = ray.get(_draw.remote(worst, model, scoring, out, storage))
    return uris


@ray.remote
def _draw(
    worst: list[list[Any]], model: str, scoring: ScoringSettings, out: str, storage: StorageSettings
) -> list[str]:
    configure(storage)
    bundle = load_bundle(model)
    scorer = ImageScorer(bundle.model, bundle.settings, scoring)
    uris = []
    for rank, (_, image_id, uri) in enumerate(worst, start=1):
        try:
            content = read_bytes(uri)
            result = scorer(content)
            image = to_rgb8(decode_image(content, scoring.max_pixels))
        except (DecodeError, OSError):
            continue
        full = upsample(result.anomaly_map, result.span, (result.tiling.height, result.tiling.width))
        low = bundle.reference.pixel_threshold
        picture = overlay(image, full, low, max(2 * low, float(np.max(full))))
        uris.append(join(out, "heatmaps", f"{rank:04d}-{image_id}.jpg"))
        write_bytes(uris[-1], encode_jpeg(picture, MAX_SIDE))
    return uris
