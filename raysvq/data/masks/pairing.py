"""Which mask of a tree belongs to which image, by name."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from raysvq.errors import DataError

# Behind an image's name; in small letters or capitals.
SUFFIXES = ("_mask", "-mask", ".mask", "_masks", "_gt", "-gt", "_label", "-label", "_labels", "_seg", "-seg")


def image_stem(mask_stem: str) -> str:
    """What the image of a mask is called, both without extension: `000_mask`, `000_GT`, `000` -> `000`."""
    lower = mask_stem.lower()
    longest = max((len(end) for end in SUFFIXES if lower.endswith(end)), default=0)
    return mask_stem[: len(mask_stem) - longest]


class Masks:
    """The masks of a tree; each is handed out to the image that it belongs to."""

    def __init__(self, uris: Iterable[str], folder: str) -> None:
        """`folder` is ground_truth/, below which masks lie as their images lie below train/ or test/."""
        self._left: dict[str, None] = {}  # in order
        self._named: defaultdict[str, list[str]] = defaultdict(list)  # an image's path, no extension -> masks
        self._taken: dict[str, str] = {}  # mask -> image
        self._several: set[str] = set()  # images whose masks stand in a folder of the image's name
        self._folder = folder
        for uri in uris:
            self._left[uri] = None
            stem = self._below(uri)
            for name in {stem, image_stem(stem)}:
                self._named[name].append(uri)
        self._folders = {str(PurePosixPath(self._below(uri)).parent) for uri in self._left}

    def take(self, stem: str, image: str, normal: bool) -> str | None:
        """The mask of an image, None where it has none.

        Args:
            stem: the image's path below train/ or test/, without extension.
            image: its URI.
            normal: images that have nothing to mark may share a mask.

        Raises:
            DataError: there are two, or another image has it already.
        """
        stem = _normal_form(stem)
        if stem in self._folders:
            self._several.add(stem)
        found = self._named.get(stem, [])
        if len(found) > 1:
            raise DataError(f"two masks for {image}: {found[0]} and {found[1]}; expected one")
        if not found:
            return None
        mask = found[0]
        if not normal and (other := self._taken.setdefault(mask, image)) != image:
            raise DataError(
                f"one mask for two images: {other} and {image}; rename one, or take it out if it is a mask"
            )
        self._left.pop(mask, None)
        return mask

    def require_none_left(self, test: str) -> None:
        """Check that every mask has found its image, which is looked for below `test`, too.

        Raises:
            DataError: one has not.
        """
        if not self._left:
            return
        mask, number = next(iter(self._left)), len(self._left)
        stem = self._below(mask)
        expected = image_stem(stem)
        parent = str(PurePosixPath(stem).parent)
        if parent in self._several:
            hint = f"; masks of one image, {test}/{parent}.*, are to be one file"
        elif expected == stem:
            hint = f"; a mask has its image's name, or one of {' '.join(SUFFIXES)} behind it"
        else:
            hint = ""
        raise DataError(
            f"mask without image: {mask} expects an image {test}/{expected}.*"
            + (f" ({number} such masks)" if number > 1 else "")
            + hint
        )

    def _below(self, uri: str) -> str:
        return _normal_form(uri.removeprefix(f"{self._folder}/").removesuffix(PurePosixPath(uri).suffix))


def _normal_form(name: str) -> str:
    """One spelling of accented letters: macOS stores another than it is asked for."""
    return unicodedata.normalize("NFC", name)
