"""An image tree of stripes under noise, some with a dark square, small enough for a frozen stem."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_stripes(folder: Path, normals: int = 12, seed: int = 0) -> str:
    """Write train/good, test/good and test/square with their masks; the tree's path."""
    for split, label, count in [("train", "good", normals), ("test", "good", 3), ("test", "square", 6)]:
        place = folder / split / label
        place.mkdir(parents=True)
        for number in range(count):
            draw = np.random.default_rng([seed, number, len(split), len(label)])
            image = 120 + 40 * np.sin(np.arange(64) / 3)[:, None, None] + draw.normal(0, 8, (64, 64, 3))
            if label == "square":
                image[10:30, 10:30] -= 60
            cv2.imwrite(str(place / f"{number}.png"), image.clip(0, 255).astype(np.uint8))
    return str(folder)
