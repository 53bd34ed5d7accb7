"""Images of the rehearsed cameras, drawn: small, and each another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from devtools.rehearsal.script import PRODUCTS, Shot

SIDE = 64  # pixels
GAMMA = 2.2
QUALITY = 90  # of JPEG
_DEFECT = slice(SIDE // 3, SIDE // 2)


def content(shot: Shot) -> bytes:
    """The file's bytes: the same for the same shot."""
    seed = [shot.camera.number, shot.night, shot.number, shot.edition]
    encoded = _encode(draw(shot.camera.product, seed, shot.kind == "defective", shot.stops))
    return encoded[: len(encoded) // 3] if shot.kind == "broken" else encoded


def draw(product: str, seed: Sequence[int], defective: bool, stops: float = 0.0) -> npt.NDArray[np.uint8]:
    """(SIDE, SIDE, 3) BGR of stripes or of blotches under noise; a defect is a dark square."""
    rng = np.random.default_rng([PRODUCTS.index(product), *seed])
    if product == "plates":
        across = np.arange(SIDE) / 3 + rng.uniform(0, 2 * np.pi)
        surface = np.broadcast_to(0.3 + 0.1 * np.sin(across)[:, None], (SIDE, SIDE))
    else:
        blotches = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 2.5)
        surface = 0.3 + 0.06 * blotches / blotches.std()
    light = np.repeat(surface[..., None], 3, 2) * (1.0, 0.97, 0.92) + rng.normal(0, 0.012, (SIDE, SIDE, 3))
    if defective:
        light[_DEFECT, _DEFECT] *= 0.25
    return np.asarray(255 * np.clip(light * 2.0**stops, 0, 1) ** (1 / GAMMA) + 0.5, np.uint8)


def write_tree(folder: Path, product: str, normal: int, anomalous: int) -> str:
    """An image tree of a product to train on: train/good, test/good, test/square and its masks."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[_DEFECT, _DEFECT] = 255
    for split, label, count in (
        ("train", "good", normal),
        ("test", "good", 4),
        ("test", "square", anomalous),
    ):
        for number in range(count):
            seed = [10**6, number, len(split), len(label)]
            image = _encode(draw(product, seed, label == "square"))
            _write(folder / split / label / f"{number:03d}.jpg", image)
            if label == "square":
                _write(folder / "ground_truth" / label / f"{number:03d}_mask.png", _encode(mask, ".png"))
    return str(folder)


def _encode(pixels: npt.NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if suffix == ".jpg" else []
    return cv2.imencode(suffix, pixels, quality)[1].tobytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
