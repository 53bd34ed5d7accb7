"""Folder layouts: read where their meaning is certain, else refused with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raysvq.data.sources.synonyms import label_meant, means_masks, plain, split_meant, word_set
from raysvq.errors import DataError
from raysvq.schema import ANOMALOUS, NORMAL, TEST, TRAIN, UNKNOWN, VALIDATION

GOOD = "good"
GROUND_TRUTH = "ground_truth"
MAKES_A_TREE = ("train", "validation", "test", "test_public", GROUND_TRUTH)

# Folder of a tree -> the split of its images. MVTec AD 2 has public tests, and private tests without labels.
_SPLITS = {
    "train": TRAIN,
    "validation": VALIDATION,
    "val": VALIDATION,
    "valid": VALIDATION,
    "test": TEST,
    "test_public": TEST,
}
_UNLABELLED = ("test_private", "test_private_mixed")
_NO_DEFECTS = word_set(
    "image images img imgs picture pictures jpegimages label labels annotation annotations data rgb 0 1"
)
# Folder names in a plain folder. Their images are left out where they are masks.
_MASK_FOLDERS = word_set("mask masks ground_truth ground_truths groundtruth groundtruths gt")
_LISTING = "or write a listing (.csv or .parquet with a column `uri`)"


@dataclass(frozen=True)
class Tree:
    """The folders of an image tree."""

    splits: dict[str, str]  # folder -> the split of its images
    unlabelled: tuple[str, ...]
    masks: bool  # whether there is a ground_truth/

    @property
    def tells_defects(self) -> bool:
        """Whether folders in test/ can only be defects, even without a good/ beside them."""
        return self.masks or TRAIN in self.splits.values()

    def folders(self) -> set[str]:
        """Names of all folders that are read, with a final slash."""
        return {f"{name}/" for name in (*self.splits, *self.unlabelled, *([GROUND_TRUTH] * self.masks))}


def read_tree(root: str, folders: Sequence[str]) -> Tree | None:
    """The image tree of a folder with these subfolders; None where they make none.

    Args:
        root: the folder's URI.
        folders: names of the folders directly in it.

    Raises:
        DataError: a folder's name is another word for a folder of a tree, or two folders stand for one split.
    """
    if not set(MAKES_A_TREE) & set(folders):
        return None
    for name in folders:
        if name not in (*_SPLITS, *_UNLABELLED, GROUND_TRUTH):
            _require_no_part(root, name, masks=GROUND_TRUTH not in folders)
    splits = {name: split for name, split in _SPLITS.items() if name in folders}
    for name, split in splits.items():
        others = [other for other, its in splits.items() if its == split and other != name]
        if others:
            raise DataError(f"{root}: both {name}/ and {others[0]}/ stand for the split {split}; merge them")
    return Tree(splits, tuple(name for name in _UNLABELLED if name in folders), GROUND_TRUTH in folders)


class PlainFolders:
    """Checks a plain folder for folder names that would label its images, or give them a split."""

    def __init__(self, root: str) -> None:
        """`root` is the source itself, where a single such name is enough."""
        self._root = root
        # folder above the last one visited -> names in it that mean a split or a label
        self._seen: dict[str, list[str]] = {}

    def visit(self, folder: str, name: str) -> None:
        """Check the folder called `name` in `folder`.

        Raises:
            DataError: its name means a split, a label or masks; the error says what to do.
        """
        split, label = split_meant(name), label_meant(name)
        if folder == self._root:
            _require_no_part(folder, name, masks=False)
        elif label == NORMAL and split_meant(folder.rpartition("/")[2]):
            raise DataError(_tree_below(folder.rpartition("/")[0], [folder.rpartition("/")[2]]))
        if means_masks(name) and plain(name) not in _MASK_FOLDERS:
            raise DataError(
                f"{folder}/{name}/ seems to hold masks, which would be taken for images: name it masks/,"
                f" which leaves them out, make an image tree with {GROUND_TRUTH}/, {_LISTING} and `mask_uri`"
            )
        if split is None and label is None:
            return
        self._seen = {at: names for at, names in self._seen.items() if f"{folder}/".startswith(f"{at}/")}
        seen = self._seen.setdefault(folder, [])
        seen.append(name)
        splits = {split_meant(one) for one in seen} - {None}
        if TRAIN in splits and len(splits) > 1:
            raise DataError(_tree_below(folder, seen))
        self._require_no_labels(folder, seen)

    def _require_no_labels(self, folder: str, names: list[str]) -> None:
        labels = {label: name for name in names if (label := label_meant(name)) in (NORMAL, ANOMALOUS)}
        if len(labels) == 2 or (labels and folder == self._root):
            raise DataError(
                f"{folder} has folders that look like labels ({_listed(labels.values())}): put normal images"
                f" into train/good/ and test/good/, others into test/<defect>/, {_LISTING} and `label`"
            )


class Labels:
    """The folders directly in train/, validation/ or test/, which label their images."""

    def __init__(self, folder: str, split: str, tells_defects: bool) -> None:
        """Start with no folder seen.

        Args:
            folder: of a split, its URI.
            split: of its images.
            tells_defects: `Tree.tells_defects`.
        """
        self._folder = folder
        self._may_lack_good = split == TEST and tells_defects
        self._found: list[str] = []

    def visit(self, folder: str, name: str) -> None:
        """Check the folder called `name` in `folder`. Raises DataError, as `label_of` does."""
        if folder == self._folder and name != GROUND_TRUTH:
            label_of(folder, name)
            self._found.append(name)

    def require_good(self) -> None:
        """Check that there is a good/, unless all folders found can only be defects.

        Raises:
            DataError: it names the folders found.
        """
        labels = {label_of(self._folder, name) for name in self._found}
        if ANOMALOUS in labels and NORMAL not in labels and not self._may_lack_good:
            raise DataError(
                f"{self._folder} has no good/, but {_listed(self._found)}: expected train/good/ and"
                f" test/good/ with the normal images, and others named after defects, {_LISTING} and `label`"
            )


def label_of(split_folder: str, name: str) -> str:
    """The label of a folder directly in train/, validation/ or test/.

    Raises:
        DataError: the name is another word for normal, or cannot be that of a defect.
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
    if plain(name) in _NO_DEFECTS or means_masks(name) or split_meant(name):
        raise DataError(
            f"{split_folder}/{name}/ would be read as a defect type: expected good/ and folders named after"
            f" defects, {_LISTING} and `label`"
        )
    return ANOMALOUS


def _require_no_part(folder: str, name: str, masks: bool) -> None:
    """Refuse a folder in the source whose name is another word for a folder of a tree."""
    meant = split_meant(name) or (GROUND_TRUTH if masks and means_masks(name) else None)
    if meant:
        raise DataError(f"{folder}/{name}/ looks like {meant}/ of an image tree: rename it, {_LISTING}")


def _tree_below(folder: str, names: Iterable[str]) -> str:
    return (
        f"{folder} looks like an image tree below the source ({_listed(names)}): index it by itself,"
        f" {_LISTING}"
    )


def _listed(names: Iterable[str]) -> str:
    """The first few names as text."""
    shown = [f"{name}/" for name in names]
    return ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")
