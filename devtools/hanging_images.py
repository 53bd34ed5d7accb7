"""Images that hang the decoder, or make it wait, where `devtools/hanging` is on PYTHONPATH."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "hanging"
SLEEPS, HOLDS = b"raysvq: hang", b"raysvq: hang, and hold the interpreter's lock"


def until(path: Path) -> bytes:
    """A comment with which decoding takes until a file is there."""
    return b"raysvq: until there is " + os.fsencode(path) + b"\n"


def python_path() -> str:
    """PYTHONPATH with which decoders hang on such images; to set before a Ray cluster starts."""
    return os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))


def jpeg(seed: int, comment: bytes = b"") -> bytes:
    """A small JPEG of noise; with one of the comments above, one that hangs or waits."""
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", comment=comment, quality=90)
    return buffer.getvalue()
