"""Which folders an image set may have: read where their meaning is certain, else refused with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raysvq.data.names import left_out
from raysvq.data.words import label_meant, means_masks, plain, split_meant, words
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NONE, NORMAL, TEST, TRAIN, UNKNOWN, VALIDATION

GOOD = "good"
GROUND_TRUTH = "ground_truth"

# Folder of a tree -> the split of its images. MVTec AD 2 has public tests, and private ones without labels.
_SPLITS = {
    "train": TRAIN,
    "validation": VALIDATION,
    "val": VALIDATION,
    "valid": VALIDATION,
    "test": TEST,
    "test_public": TEST,
}
_UNLABELLED = ("test_private", "test_private_mixed")
_MAKES_A_TREE = {"train", "validation", "test", "test_public", GROUND_TRUTH}
_NO_DEFECTS = words(
    "image images img imgs picture pictures jpegimages label labels annotation annotations data rgb 0 1"
)
_LISTING = "or write a listing (.csv or .parquet with a column `uri`)"


@dataclass(frozen=True)
class Tree:
    """The folders of an image tree."""

    splits: dict[str, str] = field(default_factory=dict)  # folder -> split of its images
    unlabelled: tuple[str, ...] = ()
    masks: bool = False  # whether it has ground_truth/

    @property
    def tells_defects(self) -> bool:
        """Whether folders without good/ beside them can only be defects."""
        return self.masks or TRAIN in self.splits.values()

    def folders(self) -> set[str]:
        """Names of all folders that are read, with a slash."""
        return {f"{name}/" for name in (*self.splits, *self.unlabelled, *([GROUND_TRUTH] * self.masks))}


def find_tree(root: str, names: Iterable[str]) -> Tree | None:
    """The image tree that the names in a folder make up; None where they make none.

    Raises:
        DataError: a folder's name is nearly one of a tree's, or two stand for one split.
    """
    folders = _folders(names)
    if not _MAKES_A_TREE & set(folders):
        return None
    splits: dict[str, str] = {}
    for name in folders:
        split = _SPLITS.get(name)
        if split is None and name not in _UNLABELLED and name != GROUND_TRUTH:
            _require_no_split(root, name)
        elif split in splits.values():
            other = next(taken for taken, its in splits.items() if its == split)
            raise DataError(f"{root}: both {other}/ and {name}/ stand for the split {split}; merge them")
        elif split:
            splits[name] = split
    in_order = {name: split for name, split in _SPLITS.items() if name in splits}
    return Tree(in_order, tuple(name for name in _UNLABELLED if name in folders), GROUND_TRUTH in folders)


def require_plain(folder: str, names: Iterable[str], top: bool) -> None:
    """Refuse a folder that says more than that its images are unlabelled.

    Args:
        top: it is the source itself, of which less is needed to suspect a tree.

    Raises:
        DataError: with what was found, and what to do.
    """
    folders = _folders(names)
    if top:
        for name in folders:
            _require_no_split(folder, name)
    splits = {split_meant(name) for name in folders} - {None}
    masks = [name for name in folders if means_masks(name)]
    if TRAIN in splits and len(splits) > 1:
        raise DataError(
            f"{folder} looks like an image tree below the source ({_listed(folders)}): index it by itself,"
            f" {_LISTING}"
        )
    if masks:
        raise DataError(
            f"{folder}/{masks[0]}/ seems to hold masks, which would be taken for images: make an image tree"
            f" of train/, test/ and ground_truth/, {_LISTING} and `mask_uri`"
        )
    _require_no_labels(folder, folders, top)


def label_of(split_folder: str, name: str) -> str:
    """The label of a folder right below train/, validation/ or test/.

    Raises:
        DataError: the name nearly means normal, or cannot be a defect's.
    """
    if name == GOOD:
        return NORMAL
    meant = label_meant(name)
    if meant == NORMAL:
        raise DataError(
            f"{split_folder}/{name}/ would be read as a defect type: rename it to good/ if its images are"
            f" normal, {_LISTING} and `label`"
        )
    if meant == UNKNOWN:
        return UNKNOWN
    if plain(name) in _NO_DEFECTS or means_masks(name) or split_meant(name) in (TRAIN, VALIDATION, TEST):
        raise DataError(
            f"{split_folder}/{name}/ would be read as a defect type: expected good/ and folders named after"
            f" defects, {_LISTING} and `label`"
        )
    return ANOMALOUS


def require_good(split_folder: str, names: Iterable[str], split: str, tells_defects: bool) -> None:
    """Refuse a folder of labels without good/, where its other folders may hold normal images.

    Raises:
        DataError: naming what was found.
    """
    folders = [name for name in _folders(names) if name != GROUND_TRUTH]
    labels = [label_of(split_folder, name) for name in folders]
    if ANOMALOUS in labels and NORMAL not in labels and (split != TEST or not tells_defects):
        raise DataError(
            f"{split_folder} has no good/, but {_listed(folders)}: expected train/good/ and"
            f" test/good/ with the normal images, beside folders named after defects, {_LISTING} and `label`"
        )


def split_given(row_label: str, split: str) -> str:
    """The split of an image in a tree: one of unknown label has none."""
    return NONE if row_label == UNKNOWN else split


def _require_no_split(folder: str, name: str) -> None:
    split = split_meant(name)
    if split and (name not in _SPLITS or name in ("val", "valid")):
        raise DataError(f"{folder}/{name}/ looks like the split {split}: rename it to {split}/, {_LISTING}")


def _require_no_labels(folder: str, folders: list[str], top: bool) -> None:
    meant = {label_meant(name): name for name in reversed(folders)}
    normal, anomalous = meant.get(NORMAL), meant.get(ANOMALOUS)
    if (normal and anomalous) or (top and (normal or anomalous)):
        raise DataError(
            f"{folder} has folders that look like labels ({_listed(filter(None, (normal, anomalous)))}): put"
            " normal images into train/good/ and test/good/, others into test/<defect>/,"
            f" {_LISTING} and `label`"
        )


def _folders(names: Iterable[str]) -> list[str]:
    """Names of folders that count, without the slash, in order."""
    names = list(names)
    left = left_out(names)
    return [name[:-1] for name in names if name.endswith("/") and name not in left]


def _listed(names: Iterable[str]) -> str:
    """A few names as text."""
    shown = [f"{name}/" for name in names]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")
