"""Which pixels of a mask are defect, from its grey levels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from raysvq.imaging.decode import DecodeError

Levels = npt.NDArray[Any]  # (H, W) of integers, booleans or floats
Marks = npt.NDArray[np.bool_]  # (H, W)

MOST_BETWEEN = 0.2  # of the image: the edges of what is drawn are neither black nor white
_END = 1 / 8  # of the scale: so near to black or white a level counts as that
_EDGE = 9  # pixels: an edge is nowhere as wide
_FULL_SCALES = (255, 65535)
_FLAT = 0.75  # of the neighbours in label numbers are equal; along smooth edges at most half are


def marked(levels: Levels, lossy: bool) -> Marks:
    """The defect in a mask.

    Of a file whose levels are exact, what is not zero is defect where there are two levels, or label
    numbers. Else black and white are told apart at half scale, if edges alone lie between them.

    Args:
        lossy: the file's compression moves levels, such as JPEG's.

    Raises:
        DecodeError: the levels are neither.
    """
    levels = _whole(levels)
    low, top = int(levels.min()), int(levels.max())
    if low < 0:
        raise _unclear(f"levels from {low} to {top}")
    if not lossy and (low == top or (low == 0 and _are_labels(levels, top))):
        return np.asarray(levels != 0)
    scale = int(np.iinfo(levels.dtype).max) if lossy else top
    _require_two_shades(levels, scale)
    return np.asarray(levels > scale // 2)


def _whole(levels: Levels) -> Levels:
    """The same as integers. Of floats whole numbers are labels, and any two levels with 0 are a mask."""
    if levels.dtype == np.bool_:
        return levels.astype(np.uint8)
    if not np.issubdtype(levels.dtype, np.floating):
        return levels
    if not np.isfinite(levels).all():
        raise _unclear("levels that are not finite")
    if np.array_equal(levels, np.rint(levels)) and abs(levels).max() < 2**31:
        return np.asarray(levels, np.int64)
    above = levels[levels != 0]
    if above.min() == above.max() > 0:
        return np.asarray(levels != 0, np.uint8)
    raise _unclear(f"fractions from {levels.min():.3g} to {levels.max():.3g}")


def _are_labels(levels: Levels, top: int) -> bool:
    """Whether what is darker than half lies in flat patches, not along the edges of what is brighter."""
    dark = (levels > 0) & (levels <= top // 2)
    if not dark.any():
        return True
    nearly_white = (levels > top * (1 - _END)) & (levels < top)
    if top in _FULL_SCALES and nearly_white.any() and levels[dark].max() <= top * _END:
        return False  # black and white, as a lossy compression left them
    pairs = equal = 0
    for one, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        compared = (dark[one] | dark[other]) & (levels[one] > 0) & (levels[other] > 0)
        pairs += int(compared.sum())
        equal += int((compared & (levels[one] == levels[other])).sum())
    return equal >= _FLAT * pairs


def _require_two_shades(levels: Levels, scale: int) -> None:
    grey = between(levels, scale)
    wide = cv2.erode(grey.astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8)).any()
    if wide or grey.mean() > MOST_BETWEEN:
        raise _unclear(
            f"{100 * grey.mean():.2g} % of its pixels between black and white (of {scale}), and not as edges"
        )


def between(levels: Levels, scale: int) -> Marks:
    """Where a level is neither nearly black nor nearly white."""
    return np.asarray((levels > scale * _END) & (levels < scale * (1 - _END)))


def _unclear(found: str) -> DecodeError:
    return DecodeError(
        "unsupported",
        f"no mask: {found}; expected black, 0, where there is no defect, and white or label numbers where"
        " there is",
    )
