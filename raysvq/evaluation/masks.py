"""Ground-truth masks of anomalous images, and the tile labels that they give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysvq import storage
from raysvq.evaluation.labelled_images import TestImage
from raysvq.evaluation.metrics import BoolArray
from raysvq.imaging.decode import DecodeError
from raysvq.imaging.mask_file import mask_size
from raysvq.imaging.masks import decode_mask
from raysvq.imaging.tiling import is_anomalous, mask_fractions
from raysvq.settings import TileSettings

_KEPT_BYTES = 64 << 20


class MaskReader:
    """Reads masks one at a time, and remembers which ones could not be used."""

    def __init__(self) -> None:
        """Start with no problem found."""
        self.problems: dict[str, str] = {}  # mask URI -> what is wrong with it
        self._kept: dict[tuple[str, int, int], npt.NDArray[np.uint8]] = {}  # a bit for each pixel
        self._room = _KEPT_BYTES

    def read(self, uri: str | None, height: int, width: int) -> BoolArray | None:
        """The mask of an image, (height, width); None where there is no mask, or none that can be used.

        A mask that cannot be used is added to `problems`. The first masks are kept, as they are read again.
        """
        if uri is None:
            return None
        bits = self._kept.get((uri, height, width))
        if bits is not None:
            return np.unpackbits(bits, count=height * width).reshape(height, width).view(bool)
        try:
            content = storage.read_bytes(uri)
            size = mask_size(content)
            mask = decode_mask(content) if size == (height, width) else None
        except OSError as error:
            self.problems[uri] = f"cannot be read ({error.strerror or error})"
            return None
        except DecodeError as error:
            self.problems[uri] = f"cannot be decoded ({error.reason}: {error.detail})"
            return None
        if mask is None:
            self.problems[uri] = f"is {size[1]} x {size[0]} pixels, its image {width} x {height}"
        elif not mask.any():
            self.problems[uri] = "marks nothing"
            return None
        else:
            self._keep((uri, height, width), mask)
        return mask

    def _keep(self, name: tuple[str, int, int], mask: BoolArray) -> None:
        bits = np.packbits(mask)
        if bits.nbytes <= self._room:
            self._kept[name] = bits
            self._room -= bits.nbytes


def tile_labels(
    image: TestImage,
    rects: npt.NDArray[np.int32],
    size: tuple[int, int],
    masks: MaskReader,
    tiles: TileSettings,
) -> BoolArray | None:
    """Which tiles of an image are anomalous.

    A tile that is the whole image takes the label of the image. Tiles of a normal image are normal. A tile of
    an anomalous image is anomalous where at least `tiles.anomalous_fraction` of it is marked.

    Args:
        rects: (T, 4) x, y, w, h of the tiles in pixels.
        size: (height, width) of the image in pixels.
        masks: reads the mask of an anomalous image.
        tiles: as the model was trained with.

    Returns:
        (T,) labels, or None where an anomalous image has no usable mask.
    """
    read = image.anomalous and tiles.mode != "whole"
    mask = masks.read(image.mask_uri, *size) if read else None
    return tile_labels_of(mask, image.anomalous, rects, tiles)


def tile_labels_of(
    mask: BoolArray | None, anomalous: bool, rects: npt.NDArray[np.int32], tiles: TileSettings
) -> BoolArray | None:
    """`tile_labels` for a mask that was read; None where it cannot be used."""
    if tiles.mode == "whole" or not anomalous:
        return np.full(len(rects), anomalous)
    return None if mask is None else is_anomalous(mask_fractions(mask, rects), tiles.anomalous_fraction)
