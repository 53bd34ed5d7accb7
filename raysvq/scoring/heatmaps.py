"""Heat-map overlays: of every anomalous image as it is scored, or of the highest-scored ones at the end."""

from __future__ import annotations

import heapq
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import ray

from raysvq.data.manifest import Row
from raysvq.imaging.decode import DecodeError, decode_image
from raysvq.imaging.overlay import Rgb, encode_jpeg, overlay, to_rgb8, upsample
from raysvq.imaging.pixels import at_full_scale, open_tiles
from raysvq.imaging.tiling import Tiling, resize
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.results.format import File
from raysvq.results.writer import read_file
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.scoring.fetch import read_row
from raysvq.scoring.session import WorkerSession, memory_advice, open_session
from raysvq.scoring.spec import SessionConfig
from raysvq.settings import ScoringSettings, TileSettings
from raysvq.storage import join, write_bytes

MAX_SIDE = 1600  # of an overlay, pixels
LARGE_PIXELS = 50_000_000  # an image with more is not decoded whole for its overlay
_READERS = 16  # result files read at once

_SCORED = ["image_score", "image_id", "uri", "size_bytes", "etag", "mtime"]


def draw_heatmap(content: bytes, result: ImageResult, session: WorkerSession) -> bytes:
    """A scored image's overlay as JPEG; map values up to the pixel threshold leave the image as it is.

    Raises:
        DecodeError: the file is not a whole, readable image, or cannot be shrunk within the limits.
    """
    shrink = min(1.0, MAX_SIDE / max(result.tiling.height, result.tiling.width))
    height, width, *span = (
        max(1, round(side * shrink)) for side in (result.tiling.height, result.tiling.width, *result.span)
    )
    low = session.bundle.decisions.pixel_threshold
    image = _shrunk(content, result.tiling, (height, width), session.config.scoring)
    full = upsample(result.anomaly_map, (span[0], span[1]), (height, width))
    return encode_jpeg(overlay(image, full, low, max(2 * low, float(np.max(full)))), MAX_SIDE)


def _shrunk(content: bytes, tiling: Tiling, size: tuple[int, int], scoring: ScoringSettings) -> Rgb:
    """The image at a (height, width); one that is too large for memory is read in bands."""
    if tiling.height * tiling.width <= LARGE_PIXELS:
        return to_rgb8(resize(decode_image(content, scoring.max_pixels), *size))
    square = TileSettings(mode="whole", size=MAX_SIDE)
    (tile,) = (part[0] for part in open_tiles(content, square, scoring).parts)
    return to_rgb8(resize((at_full_scale(tile) // 257).astype(np.uint8), *size))


def find_worst(out: str, files: list[File], count: int) -> list[Row]:
    """The highest-scored rows of some files of scores, with columns _SCORED; of equals the first by id."""
    if not count:
        return []
    with ThreadPoolExecutor(_READERS) as pool:
        highest = pool.map(partial(_highest, out, count=count), files)
        return heapq.nsmallest(count, (row for part in highest for row in part), key=_rank)


def _highest(out: str, file: File, count: int) -> list[Row]:
    return heapq.nsmallest(count, read_file(out, file, _SCORED).to_pylist(), key=_rank)


def _rank(row: Row) -> tuple[float, str]:
    return -row["image_score"], row["image_id"]


def write_worst(worst: list[Row], run_id: str, out: str, session: SessionConfig) -> list[str]:
    """Write an overlay of each image, named by run and rank, in one Ray task on a CPU.

    An image that is gone, or has changed, since it was scored has none.

    Returns:
        Their names below the score directory, worst first.
    """
    if not worst:
        return []
    on_cpu = replace(session, device="cpu", backend=EXACT, decoders=0)
    names: list[str] = result_of(_draw.remote(worst, run_id, out, on_cpu))
    return names


@ray.remote
@returns_failures
def _draw(worst: list[Row], run_id: str, out: str, config: SessionConfig) -> list[str]:
    names = []
    with memory_advice(config):
        session = open_session(config)
        with session.sandbox() as sandbox:
            for rank, row in enumerate(worst, start=1):
                try:
                    content = read_row(row)
                    sandbox.require_decodable(content)
                    drawn = draw_heatmap(content, session.scorer(content), session)
                except (DecodeError, OSError):  # gone, changed, or scored in tiles, but too large to shrink
                    continue
                names.append(f"heatmaps/{run_id}/{rank:04d}-{row['image_id']}.jpg")
                write_bytes(join(out, names[-1]), drawn)
    return names
