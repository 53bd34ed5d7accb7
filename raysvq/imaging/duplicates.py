"""Near-duplicates: images that show the same thing, so that their scores are no independent evidence.

Two images are near-duplicates where their files are the same, or their fine structure is: small grey copies
of them, without what varies slowly, differ by less than a tenth of their own strength. Noise differs from
one photograph to the next, also of plain surfaces, so that only the same picture passes: encoded anew, or
taken again of a thing that did not move. Most different images of one product are further apart by an order
of magnitude; the nearest two of 209 bottles in the same place differ by 0.107 of their strength.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 64  # of a small copy, pixels
_COARSE = 2.0  # deviation of the Gaussian that takes the slow variation, pixels of a small copy
_MAX_DIFFERENCE = 0.1  # root of mean square, relative to that of the fine structure
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of RGB; what JPEG keeps of the noise
_AT_ONCE = 512  # images compared with all others


@dataclass(frozen=True)
class Fingerprint:
    """What near-duplicates are told by."""

    digest: str  # of the file
    detail: npt.NDArray[np.float32]  # (SIDE * SIDE,) fine structure


def fingerprint(content: bytes, image: npt.NDArray[np.uint16]) -> Fingerprint:
    """The fingerprint of a file and its pixels, (H, W, 1 or 3) over the full scale, also resized."""
    luma = image @ _LUMA if image.shape[2] == 3 else image[..., 0].astype(np.float32)
    small = cv2.resize(luma, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    detail = small - cv2.GaussianBlur(small, (0, 0), _COARSE)
    return Fingerprint(hashlib.sha256(content).hexdigest(), np.asarray(detail, np.float32).ravel())


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[int]:
    """For each image the number of the first that it is near to, also through others."""
    count = len(fingerprints)
    if not count:
        return []
    first = {one.digest: number for number, one in reversed(list(enumerate(fingerprints)))}
    pairs = [np.array([(number, first[one.digest]) for number, one in enumerate(fingerprints)])]
    details = np.stack([one.detail for one in fingerprints])
    energy = np.square(details, dtype=np.float64).sum(axis=1)
    for start in range(0, count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        both = energy[part, None] + energy
        apart = both - 2.0 * (details[part] @ details.T)  # ‖a − b‖²
        alike = apart < _MAX_DIFFERENCE**2 * both / 2  # never without structure
        pairs.append(np.argwhere(alike) + np.array([start, 0]))
    one, other = np.concatenate(pairs).T
    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    labels = connected_components(links, directed=False)[1]
    leaders = np.unique(labels, return_index=True)[1]
    return [int(leaders[label]) for label in labels]
