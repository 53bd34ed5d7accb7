"""Which decoder is faster: raysvq's choice for a format, or Pillow.

Run: python benchmarks/decode.py [--json FILE]. Both decode the same files in turn, on one thread;
the ratio of the two is what counts, since machines differ.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from raysvq.imaging.decode import decode_image

ROUNDS, REPEATS = 7, 10
HEIGHT, WIDTH = 1200, 1600


def files() -> dict[str, bytes]:
    """A photograph-like picture (smooth shapes and grain) in the formats that cameras write."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(HEIGHT, WIDTH, 3)), (30, 30, 0))
    picture = smooth / np.abs(smooth).max() + 0.05 * rng.normal(size=smooth.shape)
    rgb = np.clip(picture * 100 + 128, 0, 255).astype(np.uint8)
    deep = np.clip(picture[..., 0] * 25_000 + 32_000, 0, 65_535).astype(np.uint16)
    return {
        "JPEG, RGB, 8 bit": _encode(".jpg", rgb),
        "JPEG, grey, 8 bit": _encode(".jpg", rgb[..., 0]),
        "PNG, RGB, 8 bit": _encode(".png", rgb),
        "PNG, grey, 16 bit": _encode(".png", deep),
    }


def with_pillow(content: bytes) -> None:
    """The plain way."""
    np.asarray(Image.open(io.BytesIO(content)))


def milliseconds(decode: Callable[[bytes], object], content: bytes) -> float:
    """Of one decoding, over REPEATS."""
    started = time.perf_counter()
    for _ in range(REPEATS):
        decode(content)
    return 1000 * (time.perf_counter() - started) / REPEATS


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    print(f"{WIDTH} x {HEIGHT} pixels, median of {ROUNDS} rounds, one thread of {platform.machine()}")
    print(f"{'file':<20}{'raysvq, ms':>12}{'Pillow, ms':>12}{'ratio':>8}")
    for name, content in files().items():
        pairs = [
            (
                milliseconds(lambda data: decode_image(data, 10**9), content),
                milliseconds(with_pillow, content),
            )
            for _ in range(ROUNDS)
        ]
        ours, pillow = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(plain / chosen for chosen, plain in pairs)
        rows.append({"file": name, "raysvq_ms": ours, "pillow_ms": pillow, "ratio": ratio})
        print(f"{name:<20}{ours:>12.2f}{pillow:>12.2f}{ratio:>8.2f}")
    if arguments.json:
        record = {"machine": platform.machine(), "python": platform.python_version(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def _encode(suffix: str, pixels: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(suffix, pixels)
    assert done
    return encoded.tobytes()


if __name__ == "__main__":
    main()
