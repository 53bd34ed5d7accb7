"""Sources of images: a labelled tree, a plain folder, or a listing.

Each source yields one manifest row per image. `split` is None where the source gives none. An error in the
set as a whole is raised. An error in one image is left to the stages that read it. Files that are no images
are counted as skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from raysvq.data.manifest import Row, row_of
from raysvq.data.sources.folder_scan import Skips, images
from raysvq.data.sources.layouts import PlainFolders
from raysvq.data.sources.listing import listing_rows
from raysvq.data.sources.tree import open_tree, tree_rows
from raysvq.storage import is_folder


def rows_of(source: str, skips: Skips | None = None) -> Iterator[Row]:
    """Manifest rows of an image tree, a folder or a listing.

    Args:
        source: a path or URI.
        skips: counts what is left out.

    Raises:
        DataError: the layout, or a row of the listing, is wrong.
        StorageError: the source cannot be read.
    """
    skips = skips or Skips()
    if not is_folder(source):
        return listing_rows(source)
    tree = open_tree(source, skips)
    return tree_rows(source, tree, skips) if tree else folder_rows(source, skips)


def folder_rows(root: str, skips: Skips) -> Iterator[Row]:
    """Rows of every image at or below a folder or prefix, with an unknown label.

    Raises:
        DataError: a folder's name means a split, a label or masks.
    """
    for info in images(root, skips, PlainFolders(root).visit):
        yield row_of(info)
