"""Labelled images as files, for the tests of encodings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from raysvq import storage
from raysvq.storage import ObjectInfo


@dataclass(frozen=True)
class Labelled:
    image_id: str
    uri: str
    anomalous: bool
    mask_uri: str | None
    version: ObjectInfo


def write_image(
    folder: str, name: str, image: np.ndarray, mask: np.ndarray | None = None, anomalous: bool | None = None
) -> Labelled:
    """An image file with its mask; anomalous where it has one, unless said otherwise."""
    uri, mask_uri = storage.join(folder, name), None
    storage.write_bytes(uri, _png(image))
    if mask is not None:
        mask_uri = storage.join(folder, f"{name}.mask")
        storage.write_bytes(mask_uri, _png(mask.astype(np.uint8) * 255))
    [version] = storage.file_infos([uri])
    assert version is not None
    return Labelled(name, uri, (mask is not None) if anomalous is None else anomalous, mask_uri, version)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 140, (height, width, 3), np.uint8)


def write_set(folder: str, normal: int = 3, anomalous: int = 3, size: int = 64) -> list[Labelled]:
    """Noise; anomalous images have a white, masked square of 16 pixels at row 8, column 24."""
    images = [write_image(folder, f"n{number}.png", noise(size, size, number)) for number in range(normal)]
    for number in range(anomalous):
        image, mask = noise(size, size, 100 + number), np.zeros((size, size), bool)
        image[8:24, 24:40] = 255
        mask[8:24, 24:40] = True
        images.append(write_image(folder, f"a{number}.png", image, mask))
    return images


def without_mask(image: Labelled) -> Labelled:
    return replace(image, mask_uri=None)


def _png(image: np.ndarray) -> bytes:
    done, content = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    assert done
    return content.tobytes()
