"""Where images come from: a labelled tree, a plain folder, or a listing.

Each source yields manifest rows, one image at a time, with `split` None where the source does
not say. What is wrong with the set as a whole is raised; what is wrong with one image is left to
the stages that read it; what is no image is counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from raysvq.data.listings.listing import listing_rows
from raysvq.data.manifest import Row, row_of
from raysvq.data.trees.layouts import PlainFolders
from raysvq.data.trees.sieve import images
from raysvq.data.trees.skipped import Skips
from raysvq.data.trees.tree import open_tree, tree_rows
from raysvq.storage import is_folder


def rows_of(source: str, skips: Skips | None = None) -> Iterator[Row]:
    """Manifest rows of whatever `source` is.

    Args:
        skips: counts what is left out.

    Raises:
        DataError: the layout or a listing's row is wrong.
        StorageError: the source cannot be read.
    """
    skips = skips or Skips()
    if not is_folder(source):
        return listing_rows(source)
    tree = open_tree(source, skips)
    return tree_rows(source, tree, skips) if tree else folder_rows(source, skips)


def folder_rows(root: str, skips: Skips) -> Iterator[Row]:
    """Every image at or below a folder or prefix, of unknown label.

    Raises:
        DataError: folders are named like splits or labels, which are not what a plain folder has.
    """
    for info in images(root, skips, PlainFolders(root).look):
        yield row_of(info)
