"""The images that the report shows: which ones, and how they are drawn, as data URIs and SVG paths."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from raysvq import storage
from raysvq.evaluation.masks import MaskReader
from raysvq.evaluation.pixel_metrics import AnomalyMap, stream_maps
from raysvq.evaluation.result import ImageRecord
from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import encode_webp, heat_layer, outline, to_rgb8, upsample
from raysvq.imaging.tiling import resize
from raysvq.log import ProgressMeter

SIDE = 320  # pixels of the longer side of a thumbnail
MAX_BYTES = 12 << 20  # of all pictures of a page; the least telling ones are left out
_HEAT_SIDE = 96  # pixels of the longer side of a heat map whose grid is coarser
_AT_ONCE = 4  # images that are read and decoded
_Size = tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """An image as it is shown; None or empty where there is nothing to show."""

    width: int = 0  # of the thumbnail, pixels: the units of the paths
    height: int = 0
    image: str | None = None  # data URI
    heat: str | None = None  # data URI, clear where the map is low
    contour: str = ""  # SVG path: where the map is over the pixel threshold, as its regions are
    mask: str = ""  # SVG path: the outlines of the defects
    mapped: bool = False  # whether a map was kept
    problem: str | None = None  # why the image itself cannot be shown

    @property
    def bytes(self) -> int:
        """Its share of the page."""
        return len(self.image or "") + len(self.heat or "") + len(self.contour) + len(self.mask)


def most_telling(images: Sequence[ImageRecord], number: int) -> list[ImageRecord]:
    """The images that say most about a model, most telling first.

    They are the missed ones, false alarms, those nearest to the threshold on both sides, the highest scores,
    and ordinary normal ones, in shares. A kind that has too few leaves its share to the others.
    """

    def distance(image: ImageRecord) -> float:
        return abs(math.log(image.score / image.threshold)) if image.score > 0 < image.threshold else math.inf

    right = [image for image in images if image.flagged == image.anomalous]
    wrong = [image for image in images if image.flagged != image.anomalous]
    near, far = sorted(right, key=distance), sorted(wrong, key=distance, reverse=True)
    high = sorted(images, key=lambda image: -image.score)
    passed = [image for image in reversed(high) if not image.flagged and not image.anomalous]
    spread: list[int] = np.linspace(0, len(passed) - 1, min(len(passed), number)).astype(int).tolist()
    kinds = (
        ([image for image in far if image.anomalous], 0.3),
        ([image for image in far if not image.anomalous], 0.3),
        ([image for image in near if image.flagged], 0.1),
        ([image for image in near if not image.flagged], 0.1),
        (high, 0.1),
        ([passed[place] for place in spread], 0.1),
    )
    shares = chain.from_iterable(kind[: math.ceil(share * number)] for kind, share in kinds)
    rest = chain.from_iterable(kind for kind, _ in kinds)
    chosen = {image.image_id: image for image in chain(shares, rest)}
    return list(chosen.values())[:number]


def draw_pictures(
    scores: str,
    images: Iterable[ImageRecord],
    map_range: tuple[float, float] | None,
    pixel_threshold: float | None,
) -> dict[str, Picture]:
    """Draw each image once; _AT_ONCE images and maps are in memory.

    Args:
        scores: URI of the score folder, which has the maps.
        images: images to draw, the most telling first.
        map_range: map values that are shown as nothing, and as strongest; None draws no heat maps.
        pixel_threshold: the map value of the contour; None draws none.

    Returns:
        image id -> picture, in the order of `images`, up to MAX_BYTES.
    """
    wanted = {image.image_id: image for image in images}
    draw = partial(_draw, map_range=map_range, pixel_threshold=pixel_threshold)
    meter = ProgressMeter(len(wanted), "pictures", "drawing")
    drawn = dict(meter.watched(_ahead(draw, _with_maps(scores, wanted))))
    return dict(_within(((image_id, drawn[image_id]) for image_id in wanted), MAX_BYTES))


def _with_maps(
    scores: str, wanted: Mapping[str, ImageRecord]
) -> Iterator[tuple[ImageRecord, AnomalyMap | None]]:
    left = dict(wanted)
    for found in stream_maps(scores, list(wanted)):
        yield left.pop(found.image_id), found
    for record in left.values():
        yield record, None


def _ahead(
    draw: Callable[[ImageRecord, AnomalyMap | None], Picture],
    found: Iterable[tuple[ImageRecord, AnomalyMap | None]],
) -> Iterator[tuple[str, Picture]]:
    """Draw a few at once: reading waits for the store, and decoding does not hold the interpreter."""
    waiting: deque[tuple[str, Future[Picture]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for record, its_map in found:
            if len(waiting) == _AT_ONCE:
                image_id, picture = waiting.popleft()
                yield image_id, picture.result()
            waiting.append((record.image_id, pool.submit(draw, record, its_map)))
        for image_id, picture in waiting:
            yield image_id, picture.result()


def _within(pictures: Iterator[tuple[str, Picture]], budget: int) -> Iterator[tuple[str, Picture]]:
    for image_id, picture in pictures:
        budget -= picture.bytes
        if budget < 0:
            return
        yield image_id, picture


def _draw(
    record: ImageRecord,
    found: AnomalyMap | None,
    map_range: tuple[float, float] | None,
    pixel_threshold: float | None,
) -> Picture:
    try:
        scored = record.version
        content = storage.read_version(scored.uri, scored.size_bytes, scored.etag, scored.mtime)
        image = decode_image(content, max_pixels=record.width * record.height)
    except storage.ChangedError as error:
        return Picture(problem=f"has changed since it was scored ({error})")
    except OSError as error:
        return Picture(problem=f"cannot be read any more ({error.strerror or error})")
    except DecodeError as error:
        return Picture(problem=f"has changed since it was scored ({error.reason}: {error.detail})")
    height, width = _fit(image.shape[0], image.shape[1], SIDE)
    heat, contour = None, ""
    if found is not None and map_range is not None:
        size = _fit(height, width, max(_HEAT_SIDE, *found.values.shape))
        heat = _data_uri(_heat(_resampled(found, size), *map_range))
    if found is not None and pixel_threshold is not None:
        contour = outline(_resampled(found, (height, width)) > pixel_threshold)
    return Picture(
        width=width,
        height=height,
        image=_data_uri(to_rgb8(resize(image, height, width))),
        heat=heat,
        contour=contour,
        mask=_mask(record, height, width),
        mapped=found is not None,
    )


def _heat(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.uint8]:
    """A layer over the image, logarithmic: a strong defect leaves weak ones their colour."""
    least = max(low, 1e-6 * high)
    return heat_layer(np.log(np.maximum(values, least)), math.log(least), math.log(high))


def _mask(record: ImageRecord, height: int, width: int) -> str:
    if not record.anomalous or record.mask_uri is None:
        return ""
    mask = MaskReader().read(record.mask_uri, record.height, record.width)
    if mask is None:
        return ""
    # A pixel of the thumbnail is marked where any pixel below it is: small defects stay visible.
    return outline(np.asarray(resize(mask.astype(np.uint8) * np.uint8(255), height, width) > 0))


def _fit(height: int, width: int, side: int) -> _Size:
    shrink = min(1.0, side / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def _resampled(found: AnomalyMap, size: _Size) -> npt.NDArray[np.float32]:
    """A map at another size of its image. Where that is smaller than its grid, small peaks stay."""
    height, width = size
    shrink = math.ceil(max(found.values.shape[0] / height, found.values.shape[1] / width))
    values = maximum_filter(found.values, shrink) if shrink > 1 else found.values
    span = (
        max(height, round(found.span[0] * height / found.size[0])),
        max(width, round(found.span[1] * width / found.size[1])),
    )
    return upsample(values, span, (height, width))


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode_webp(pixels)).decode()
