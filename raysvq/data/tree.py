"""An image tree: train/good, validation/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from raysvq.data.layouts import GOOD, GROUND_TRUTH, Tree, label_of, require_good, split_given
from raysvq.data.manifest import Row, row_of
from raysvq.data.names import is_image, left_out, masks_beside
from raysvq.data.pairing import Masks
from raysvq.data.skipped import READ_APART, Skips
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NONE, NORMAL
from raysvq.storage import ObjectInfo, exists, join, list_objects


def tree_rows(root: str, tree: Tree, skips: Skips) -> Iterator[Row]:
    """The rows of an image tree.

    The folder right below train/, validation/ or test/ is the label; there may be more folders below it.

    Raises:
        DataError: a mask has no image, or an image two masks or no folder that labels it.
    """
    masks = _masks(join(root, GROUND_TRUTH), skips) if tree.masks else Masks((), root)
    for name, split in tree.splits.items():
        folder = join(root, name)
        inside = join(folder, GROUND_TRUTH)
        own = _masks(inside, skips) if exists(inside) else None
        for info in _labelled(folder, split, tree, skips):
            yield _row(info, folder, split, own or masks)
        if own:
            own.require_none_left(folder)
    for name in tree.unlabelled:
        for info in images(join(root, name), skips):
            yield row_of(info, split=NONE)
    masks.require_none_left(join(root, "test"))


def images(root: str, skips: Skips) -> Iterator[ObjectInfo]:
    """The images at or below a folder; what else there is gets counted."""
    for info in list_objects(root, leave_out=lambda _, names: left_out(names), report=skips.add):
        if is_image(info.uri):
            yield info
        else:
            skips.add_file(info.uri)


def _masks(folder: str, skips: Skips) -> Masks:
    return Masks((info.uri for info in images(folder, skips)), folder)


def _labelled(folder: str, split: str, tree: Tree, skips: Skips) -> Iterator[ObjectInfo]:
    """The images below the folder of a split."""

    def leave_out(below: str, names: list[str]) -> dict[str, str]:
        left = left_out(names)
        for mask, image in masks_beside(name for name in names if name not in left).items():
            raise DataError(
                f"{below}/{mask} seems to be the mask of {image} beside it; expected in {GROUND_TRUTH}/,"
                " below the folder that has its image's label"
            )
        if below == folder:
            require_good(folder, names, split, tree.tells_defects)
            left |= {f"{GROUND_TRUTH}/": READ_APART}
        return left

    for info in list_objects(folder, leave_out=leave_out, report=skips.add):
        if is_image(info.uri):
            yield info
        else:
            skips.add_file(info.uri)


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
        split=split_given(label, split),
        mask_uri=masks.take(stem, info.uri, label == NORMAL),
        defect_type=kind if label == ANOMALOUS else None,
    )
