"""Heat-map overlays: of every anomalous image as it is scored, or of the highest-scored ones at the end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import ray

from raysvq.cluster import result_of
from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import Rgb, encode_jpeg, overlay, to_rgb8, upsample
from raysvq.imaging.pixels import at_full_scale, open_tiles
from raysvq.imaging.tiling import Tiling, resize
from raysvq.model.bundle import load_bundle
from raysvq.model.scorer import ImageResult, ImageScorer
from raysvq.settings import ScoringSettings, StorageSettings, TileSettings
from raysvq.storage import configure, join, read_bytes, write_bytes

MAX_SIDE = 1600  # of an overlay, pixels
LARGE = 50_000_000  # pixels of an image that is not decoded whole for its overlay


def write_heatmap(
    uri: str, content: bytes, result: ImageResult, low: float, scoring: ScoringSettings
) -> None:
    """Write a scored image's overlay as JPEG; map values up to `low` leave the image as it is.

    Raises:
        DecodeError: the file is not a whole, readable image, or cannot be shrunk within the limits.
        StorageError: the place may not be written.
    """
    shrink = min(1.0, MAX_SIDE / max(result.tiling.height, result.tiling.width))
    height, width, *span = (
        max(1, round(side * shrink)) for side in (result.tiling.height, result.tiling.width, *result.span)
    )
    image = _shrunk(content, result.tiling, (height, width), scoring)
    full = upsample(result.anomaly_map, (span[0], span[1]), (height, width))
    write_bytes(uri, encode_jpeg(overlay(image, full, low, max(2 * low, float(np.max(full)))), MAX_SIDE))


def _shrunk(content: bytes, tiling: Tiling, size: tuple[int, int], scoring: ScoringSettings) -> Rgb:
    """The image at a (height, width); one that is too large for memory is read in bands."""
    if tiling.height * tiling.width <= LARGE:
        return to_rgb8(resize(decode_image(content, scoring.max_pixels), *size))
    square = TileSettings(mode="whole", size=MAX_SIDE)
    (tile,) = (part[0] for part in open_tiles(content, square, scoring).parts)
    return to_rgb8(resize((at_full_scale(tile) // 257).astype(np.uint8), *size))


def write_worst(
    worst: list[list[Any]], model: str, scoring: ScoringSettings, out: str, storage: StorageSettings
) -> list[str]:
    """Write an overlay for each (score, image_id, uri), named by rank, in one Ray task.

    An image that is gone since it was scored has none.

    Returns:
        Their URIs, worst first.
    """
    if not worst:
        return []
    uris: list[str] = result_of(_draw.remote(worst, model, scoring, out, storage))
    return uris


@ray.remote
def _draw(
    worst: list[list[Any]], model: str, scoring: ScoringSettings, out: str, storage: StorageSettings
) -> list[str]:
    configure(storage, reached=True)
    bundle = load_bundle(model)
    scorer = ImageScorer(bundle.model, bundle.settings, scoring)
    uris = []
    for rank, (_, image_id, uri) in enumerate(worst, start=1):
        target = join(out, "heatmaps", f"{rank:04d}-{image_id}.jpg")
        try:
            content = read_bytes(uri)
            result = scorer(content)
        except (DecodeError, OSError):
            continue
        with suppress(DecodeError):  # scored in tiles, but too large to shrink
            write_heatmap(target, content, result, bundle.reference.pixel_threshold, scoring)
            uris.append(target)
    return uris
