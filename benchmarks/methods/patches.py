"""The paper's data protocol: patches drawn from the photographs of a set, as images of a manifest.

Section IV of the paper: 64 x 64 patches, anomalous where 5 % are marked; a pool of 2,000 normal and 2,000
anomalous patches to learn from, of which gamma decides how many anomalous ones are used; 1,000 and 1,000 to
test on. Patches lie at random positions, so they may overlap. No image gives patches to two splits, of which
the paper says nothing: half of the anomalous images are tested, an eighth validates. Of normal images the
set's own test is tested, and of its training images an eighth validates.

Objects are whole images, as in the paper: each is one patch. Their defects are few, so a third of them is
tested, and no more normal images are learnt from than make gamma = 0.2 with all others.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from raysvq.data.index import build_index
from raysvq.data.split import number_for_share
from raysvq.schema import ANOMALOUS, NORMAL, TEST, TRAIN, VALIDATION
from raysvq.settings import SplitSettings, TileSettings

RULE = TileSettings(size=64, anomalous_fraction=0.05)  # the paper's for textures
COUNTS = {TRAIN: 2000, VALIDATION: 250, TEST: 1000}  # patches of a kind; those to train on at most

_NORMALS_PER_OUTLIER = 4  # at gamma = 0.2

Paths = dict[tuple[str, str], list[Path]]  # image files by split and label


@dataclass(frozen=True)
class Patch:
    """A row of the listing."""

    uri: str
    label: str
    split: str
    mask_uri: str
    group: str  # the image that it was cut from
    defect_type: str


def divide(folder: Path, seed: int, tested: float = 1 / 2) -> Paths:
    """The images of a set's tree by split and label, each list in a random order.

    Args:
        tested: share of the anomalous images of each kind.
    """
    rng = np.random.default_rng(seed)
    learnt = _shuffled(folder / "train" / "good", rng)
    validating = len(learnt) // 8
    found: Paths = {
        (VALIDATION, NORMAL): learnt[:validating],
        (TRAIN, NORMAL): learnt[validating:],
        (TEST, NORMAL): _shuffled(folder / "test" / "good", rng),
    }
    for defect in sorted(folder.glob("test/*")):
        if defect.name != "good":
            images = _shuffled(defect, rng)
            share, eighth = int(len(images) * tested), len(images) // 8
            parts = {TEST: images[:share], VALIDATION: images[share : share + eighth]}
            for split, part in (parts | {TRAIN: images[share + eighth :]}).items():
                found.setdefault((split, ANOMALOUS), []).extend(part)
    return {place: [paths[at] for at in rng.permutation(len(paths))] for place, paths in found.items()}


def cut_patches(folder: Path, out: Path, seed: int, whole: bool) -> list[Patch]:
    """Draw the patches of a set's tree and write them below a folder.

    Args:
        whole: each image is one patch, left where it is.

    Returns:
        The patches to learn from, to validate and to test on. Of those to learn from the first anomalous ones
        are the ones that a small gamma uses.
    """
    images = divide(folder, seed, 1 / 3 if whole else 1 / 2)
    if whole:
        del images[TRAIN, NORMAL][_NORMALS_PER_OUTLIER * len(images[TRAIN, ANOMALOUS]) :]
        return [_as_it_is(path, label, split) for (split, label), paths in images.items() for path in paths]
    rng = np.random.default_rng([seed, 1])
    patches = []
    for (split, label), paths in images.items():
        place = out / split / label
        place.mkdir(parents=True)
        patches += list(_draw(paths, COUNTS[split], place, label, split, rng))
    return patches


def numbers(patches: Sequence[Patch], gamma: float) -> dict[str, int]:
    """N and M: how many patches are learnt from. Raises SystemExit where M is more than there are."""
    pools = [
        sum((one.split, one.label) == (TRAIN, label) for one in patches) for label in (NORMAL, ANOMALOUS)
    ]
    wanted = number_for_share(gamma, pools[0])
    if wanted > pools[1]:
        raise SystemExit(f"gamma={gamma:g} asks for {wanted} anomalous patches, there are {pools[1]}")
    return {"normals": pools[0], "labelled": wanted}


def write_manifest(patches: Sequence[Patch], gamma: float, manifest: Path) -> str:
    """A manifest with the first M of the anomalous patches to learn from; the others are left out.

    Returns:
        Its path.
    """
    pool = [patch for patch in patches if (patch.split, patch.label) == (TRAIN, ANOMALOUS)]
    left_out = set(pool[numbers(patches, gamma)["labelled"] :])
    return _write([patch for patch in patches if patch not in left_out], manifest)


def write_images(patches: Sequence[Patch], manifest: Path) -> str:
    """A manifest of the whole images that the test patches come from. Returns its path."""
    tested = {Path(patch.group): patch.label for patch in patches if patch.split == TEST}
    return _write([_as_it_is(path, label, TEST) for path, label in tested.items()], manifest)


def _write(rows: Sequence[Patch], manifest: Path) -> str:
    listing = manifest.with_suffix(".csv")
    names = [field.name for field in fields(Patch)]
    with listing.open("w", newline="") as file:
        csv.writer(file).writerows([names, *(astuple(row) for row in rows)])
    build_index(str(listing), str(manifest), SplitSettings())
    return str(manifest)


def _shuffled(folder: Path, rng: np.random.Generator) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [paths[at] for at in rng.permutation(len(paths))]


def _mask_of(image: Path) -> Path:
    return image.parents[2] / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"


def _defect(image: Path, label: str) -> str:
    return image.parent.name if label == ANOMALOUS else ""


def _as_it_is(path: Path, label: str, split: str) -> Patch:
    mask = str(_mask_of(path)) if label == ANOMALOUS else ""
    return Patch(str(path), label, split, mask, str(path), _defect(path, label))


def _draw(
    paths: Sequence[Path], count: int, place: Path, label: str, split: str, rng: np.random.Generator
) -> Iterator[Patch]:
    """`count` patches, as many from each image as from any other, by turns: an image after the other."""
    size = RULE.size
    for number in range(count):
        path = paths[number % len(paths)]
        image = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(_mask_of(path)).convert("L")) > 127 if label == ANOMALOUS else None
        corners = _corners(image.shape[:2], mask)
        y, x = corners[rng.integers(len(corners))]
        uri = place / f"{number:05d}.png"
        Image.fromarray(image[y : y + size, x : x + size]).save(uri)
        mask_uri = ""
        if mask is not None:
            mask_uri = str(uri.with_suffix(".mask.png"))
            Image.fromarray(mask[y : y + size, x : x + size]).save(mask_uri)
        yield Patch(str(uri), label, split, mask_uri, str(path), _defect(path, label))


def _corners(shape: tuple[int, int], mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
    """(n, 2) top left corners of all patches of an image, or of those that are anomalous by its mask."""
    size = RULE.size
    fits = np.ones((shape[0] - size + 1, shape[1] - size + 1), bool)
    if mask is not None:
        sums = cv2.integral(mask.astype(np.uint8))
        marked = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
        fits = marked >= RULE.anomalous_fraction * size**2
    return np.argwhere(fits)
