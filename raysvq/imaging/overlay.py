"""Heat maps over images, for people to look at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import Pixels

Rgb = npt.NDArray[np.uint8]
Map = npt.NDArray[Any]
_OUTLINES = 100  # drawn over one image


def upsample(anomaly_map: Map, span: tuple[int, int], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bilinear from map cells to image pixels.

    Args:
        anomaly_map: (h, w) values.
        span: (height, width) in pixels that the map spans, see `raysvq.schema.MAPS`.
        size: (height, width) of the image.
    """
    full = cv2.resize(np.asarray(anomaly_map, np.float32), span[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full[: size[0], : size[1]], np.float32)


def to_rgb8(image: Pixels) -> Rgb:
    """(H, W[, 3]) of any depth -> (H, W, 3) uint8; deep images are stretched for display."""
    if image.dtype == np.uint16:
        low, high = np.percentile(image, (0.5, 99.5))
        image = np.clip((image - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    return np.asarray(image if image.ndim == 3 else image[..., None].repeat(3, axis=2), np.uint8)


def overlay(image: Rgb, anomaly_map: Map, low: float, high: float) -> Rgb:
    """Blend a map over an image: nothing at or below `low`, strongest from `high`.

    Args:
        image: (H, W, 3) uint8.
        anomaly_map: (H, W) values.
    """
    layer = heat_layer(anomaly_map, low, high)
    alpha = layer[..., 3:].astype(np.float32) / 255
    return np.asarray(image * (1 - alpha) + layer[..., :3] * alpha, np.uint8)


def heat_layer(anomaly_map: Map, low: float, high: float) -> npt.NDArray[np.uint8]:
    """The colours and opacity (H, W, 4) of a map: clear at or below `low`, strongest from `high`."""
    strength = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)
    # The warm half of the scale, green over yellow to red: steel and paint are seldom that colour.
    colours = cv2.applyColorMap((128 + strength * 112).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    alpha = np.round(204 * np.sqrt(strength)).astype(np.uint8)
    return np.concatenate([colours, alpha[..., None]], axis=2)


def outline(marked: npt.NDArray[np.bool_]) -> str:
    """The outlines of what is marked in an (H, W) mask as an SVG path, in its pixels; empty where nothing is.

    Of many parts, the longest outlines are drawn.
    """
    found, _ = cv2.findContours(marked.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    drawn = sorted(found, key=len, reverse=True)[:_OUTLINES]
    return "".join(_path(cv2.approxPolyDP(contour, 0.7, True)[:, 0, :].tolist()) for contour in drawn)


def _path(corners: list[list[int]]) -> str:
    first, *others = ((x + 0.5, y + 0.5) for x, y in corners)
    return "M{:g} {:g}".format(*first) + "".join("L{:g} {:g}".format(*corner) for corner in others) + "Z"


def encode_jpeg(image: Rgb, max_side: int) -> bytes:
    """JPEG bytes of an (H, W, 3) uint8 image, shrunk to at most `max_side` pixels a side."""
    shrink = min(1.0, max_side / max(image.shape[:2]))
    if shrink < 1:
        height, width = (max(1, round(side * shrink)) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    done, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return encoded.tobytes()


def encode_webp(pixels: npt.NDArray[np.uint8], quality: int = 78) -> bytes:
    """WebP bytes of (H, W, 3) RGB or (H, W, 4) RGBA uint8 pixels."""
    order = [2, 1, 0] if pixels.shape[2] == 3 else [2, 1, 0, 3]
    done, encoded = cv2.imencode(".webp", pixels[..., order], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"cannot encode pixels of shape {pixels.shape}")
    return encoded.tobytes()
