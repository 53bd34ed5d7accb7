"""Thumbnails of the images in the galleries, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysvq import storage
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.pixel_metrics import AnomalyMap, stream_maps
from raysvq.evaluation.result import ImageRecord
from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import encode_jpeg, overlay, to_rgb8, upsample
from raysvq.imaging.tiling import resize

SIDE = 256  # pixels of the longer side of a thumbnail


@dataclass(frozen=True)
class Picture:
    """Data URIs of an image, its heat map and its mask; None where there is none to show."""

    image: str | None = None
    heatmap: str | None = None
    mask: str | None = None
    problem: str | None = None  # why the image itself cannot be shown


def draw_pictures(
    scores: str, examples: Iterable[ImageRecord], map_range: tuple[float, float] | None
) -> dict[str, Picture]:
    """Draw each example once; one image and one map are in memory at a time.

    Args:
        scores: URI of the score folder, which has the maps.
        examples: images to draw; one may come several times.
        map_range: map values that are shown as nothing, and as strongest; None draws no heat maps.

    Returns:
        image id -> picture.
    """
    left = {example.image_id: example for example in examples}
    drawn: dict[str, Picture] = {}
    for found in stream_maps(scores, list(left)):
        drawn[found.image_id] = _draw(left.pop(found.image_id), found, map_range)
    drawn.update({image_id: _draw(example, None, map_range) for image_id, example in left.items()})
    return drawn


def _draw(example: ImageRecord, found: AnomalyMap | None, map_range: tuple[float, float] | None) -> Picture:
    try:
        scored = example.version
        content = storage.read_version(scored.uri, scored.size_bytes, scored.etag, scored.mtime)
        image = decode_image(content, max_pixels=example.width * example.height)
    except storage.ChangedError as error:
        return Picture(problem=f"has changed since it was scored ({error})")
    except OSError as error:
        return Picture(problem=f"cannot be read any more ({error.strerror or error})")
    except DecodeError as error:
        return Picture(problem=f"has changed since it was scored ({error.reason}: {error.detail})")
    height, width = _thumbnail_size(*image.shape[:2])
    thumbnail = to_rgb8(resize(image, height, width))
    heatmap = None
    if found is not None and map_range is not None:
        heatmap = _data_uri(overlay(thumbnail, _shrink(found, height, width), *map_range))
    return Picture(_data_uri(thumbnail), heatmap, _draw_mask(example, height, width))


def _draw_mask(example: ImageRecord, height: int, width: int) -> str | None:
    if not example.anomalous or example.mask_uri is None:
        return None
    mask = MaskReader().read(example.mask_uri, example.height, example.width)
    if mask is None:
        return None
    # A pixel of the thumbnail is white where any pixel below it is marked: small defects stay visible.
    small = np.asarray(resize(mask.astype(np.uint8) * np.uint8(255), height, width) > 0)
    return _data_uri(to_rgb8(small.astype(np.uint8) * np.uint8(255)))


def _thumbnail_size(height: int, width: int) -> tuple[int, int]:
    shrink = min(1.0, SIDE / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _shrink(found: AnomalyMap, height: int, width: int) -> npt.NDArray[np.float32]:
    span = (
        max(height, round(found.span[0] * height / found.size[0])),
        max(width, round(found.span[1] * width / found.size[1])),
    )
    return upsample(found.values, span, (height, width))


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels, SIDE)).decode()
