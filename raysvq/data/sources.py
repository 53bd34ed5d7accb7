"""Where images come from: a labelled tree, a plain folder, or a listing.

Each source yields manifest rows, one image at a time, with `split` None where the source does
not say. What is wrong with the set as a whole is raised; what is wrong with one image is left to
the stages that read it; what is no image is counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from raysvq.data.layouts import Tree, find_tree, require_plain
from raysvq.data.listing import listing_rows
from raysvq.data.manifest import Row, row_of
from raysvq.data.names import MASKS_BESIDE, is_image, left_out, masks_beside
from raysvq.data.skipped import BESIDE, READ_APART, Skips
from raysvq.data.tree import tree_rows
from raysvq.storage import is_folder, list_objects


def rows_of(source: str, skips: Skips | None = None) -> Iterator[Row]:
    """Manifest rows of whatever `source` is.

    Args:
        skips: counts what is left out.

    Raises:
        DataError: the layout or a listing's row is wrong.
        StorageError: the source cannot be read.
    """
    return folder_rows(source, skips or Skips()) if is_folder(source) else listing_rows(source)


def folder_rows(root: str, skips: Skips) -> Iterator[Row]:
    """An image tree, or else every image at or below a folder or prefix, of unknown label.

    Raises:
        DataError: the names of its folders say more than that, but not clearly.
    """
    trees: list[Tree] = []

    def leave_out(folder: str, names: list[str]) -> dict[str, str]:
        if folder == root and (tree := find_tree(root, names)):
            trees.append(tree)
            return dict.fromkeys(names, BESIDE) | left_out(names) | dict.fromkeys(tree.folders(), READ_APART)
        require_plain(folder, names, top=folder == root)
        left = left_out(names)
        return left | dict.fromkeys(masks_beside(name for name in names if name not in left), MASKS_BESIDE)

    for info in list_objects(root, leave_out=leave_out, report=skips.add):
        if is_image(info.uri):
            yield row_of(info)
        else:
            skips.add_file(info.uri)
    for tree in trees:
        yield from tree_rows(root, tree, skips)
