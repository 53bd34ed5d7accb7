"""An image tree: train/good, validation/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath

from raysvq.data.manifest import Row, row_of
from raysvq.data.mask_pairing import Masks
from raysvq.data.sources.folder_scan import BESIDE, Skips, images
from raysvq.data.sources.layouts import GOOD, GROUND_TRUTH, MAKES_A_TREE, Labels, Tree, label_of, read_tree
from raysvq.data.sources.names import mark_of, why_left_out
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NONE, NORMAL, UNKNOWN
from raysvq.storage import ObjectInfo, exists, join, list_objects

_ONE_IMAGE = "{} and {} are one image, by a link; expected each image once"


def open_tree(root: str, skips: Skips) -> Tree | None:
    """The folders of an image tree; None where the source is no tree.

    What lies beside the folders of the tree is counted as skipped.

    Raises:
        DataError: a folder's name is another word for a folder of a tree, or two folders stand for one split.
    """
    if not any(exists(join(root, name)) for name in MAKES_A_TREE):
        return None
    names = _names(root, skips)
    marks = {mark for name in names if (mark := mark_of(name))}
    tree = read_tree(root, [name[:-1] for name in names if name.endswith("/") and not why_left_out(name)])
    if tree:
        for name in names:
            if name not in tree.folders():
                skips.add(join(root, name), why_left_out(name, marks) or BESIDE)
    return tree


def tree_rows(root: str, tree: Tree, skips: Skips) -> Iterator[Row]:
    """The rows of an image tree.

    The folder directly in train/, validation/ or test/ gives the label. There may be more folders below it.

    Raises:
        DataError: a mask has no image; an image has two masks, or no folder that labels it; links put one
            image into the tree twice.
    """
    masks = _masks(join(root, GROUND_TRUTH), skips) if tree.masks else Masks((), root)
    real: dict[str, str] = {}  # local folder, links resolved -> the path it was found by
    linked: dict[str, str] = {}  # likewise, for images that are links
    for name, split in tree.splits.items():
        folder = join(root, name)
        inside = join(folder, GROUND_TRUTH)
        own = _masks(inside, skips) if exists(inside) else None
        labels = Labels(folder, split, tree.tells_defects)

        def visit(at: str, name: str, labels: Labels = labels) -> None:
            labels.visit(at, name)
            _require_apart(join(at, name), real)

        for info in images(folder, skips, visit):
            if not info.uri.startswith(f"{inside}/"):
                _require_own(info.uri, linked)
                yield _row(info, folder, split, own or masks)
        labels.require_good()
        if own:
            own.require_none_left(folder)
    _require_elsewhere(linked, real)
    for name in tree.unlabelled:
        for info in images(join(root, name), skips):
            yield row_of(info, split=NONE)
    masks.require_none_left(join(root, "test"))


def _require_apart(folder: str, real: dict[str, str]) -> None:
    """Refuse two folders that are one by a link: the same images would be trained on and tested."""
    if "://" not in folder:
        other = real.setdefault(os.path.realpath(folder), folder)
        if other != folder:
            raise DataError(f"{other} and {folder} are one folder, by a link; expected each image once")


def _require_own(uri: str, linked: dict[str, str]) -> None:
    """Refuse a second link to an image."""
    if "://" not in uri and os.path.islink(uri):
        other = linked.setdefault(os.path.realpath(uri), uri)
        if other != uri:
            raise DataError(_ONE_IMAGE.format(other, uri))


def _require_elsewhere(linked: dict[str, str], real: dict[str, str]) -> None:
    """Refuse a link to an image that is in the tree anyway."""
    for target, uri in linked.items():
        folder, _, name = target.rpartition("/")
        if folder in real:
            raise DataError(_ONE_IMAGE.format(f"{real[folder]}/{name}", uri))


def _names(root: str, skips: Skips) -> list[str]:
    """Names of everything directly in a folder; those of folders end with a slash."""
    names: dict[str, None] = {}

    def note(uri: str) -> bool:
        name, slash, _ = uri.removeprefix(f"{root}/").partition("/")
        names[name + slash] = None
        return True

    def problem(uri: str, why: str) -> None:
        if "/" not in uri.removeprefix(f"{root}/").rstrip("/"):
            skips.add(uri, why)

    for info in list_objects(root, problems=problem, skip=note):
        note(info.uri)
    return list(names)


def _masks(folder: str, skips: Skips) -> Masks:
    return Masks((info.uri for info in images(folder, skips)), folder)


def _row(info: ObjectInfo, folder: str, split: str, masks: Masks) -> Row:
    stem = info.uri.removeprefix(f"{folder}/").removesuffix(PurePosixPath(info.uri).suffix)
    kind, below, _ = stem.partition("/")
    if not below:
        raise DataError(
            f"{info.uri} stands in no folder of {folder}; expected {GOOD}/ or a defect's name, or a listing"
        )
    label = label_of(folder, kind)
    return row_of(
        info,
        label=label,
        split=NONE if label == UNKNOWN else split,
        mask_uri=masks.take(stem, info.uri, label == NORMAL),
        defect_type=kind if label == ANOMALOUS else None,
    )
