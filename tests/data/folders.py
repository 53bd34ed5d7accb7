"""Folders as people have them: a case or more for each row on layouts and names in docs/own-data.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Builds a set in a folder; returns what is to be indexed, None for the folder.
Special = Callable[[Path], Path | None]


def _png(marked: int) -> bytes:
    pixels = np.zeros((8, 9), np.uint8)
    pixels[2:4] = marked
    return cv2.imencode(".png", pixels)[1].tobytes()


PICTURE, MASK = _png(50), _png(255)
TREE = ["train/good/0.png", "train/good/1.png"]


def _beside(*names: str) -> list[str]:
    return ["kept.png", *names]


def _linked(link: str, target: str) -> Special:
    def build(root: Path) -> None:
        for name in ("kept.png", "there/0.png"):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(PICTURE)
        elsewhere = root.with_name(f"{root.name} elsewhere")
        elsewhere.mkdir()
        (elsewhere / "1.png").write_bytes(PICTURE)
        (root / link).symlink_to(target.format(elsewhere=elsewhere))

    return build


def _twice(link: str, target: str) -> Special:
    def build(root: Path) -> None:
        for name in TREE:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(PICTURE)
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)

    return build


def _named(name: bytes) -> Special:
    def build(root: Path) -> None:
        (root / "kept.png").write_bytes(PICTURE)
        Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(PICTURE)

    return build


def _pipe(root: Path) -> None:
    (root / "kept.png").write_bytes(PICTURE)
    os.mkfifo(root / "pipe.png")


LAYOUTS: dict[str, list[Any]] = {
    "`train/good`, `test/good`, `test/<defect>`, `ground_truth/<defect>` (MVTec AD)": [
        [*TREE, "test/good/0.png", "test/dent/0.png", "ground_truth/dent/0_mask.png"]
    ],
    "`validation/`, `val/` or `valid/` beside `train/` (MVTec LOCO)": [
        [*TREE, f"{name}/good/0.png"] for name in ("validation", "val", "valid")
    ],
    "`test_public/` with a `ground_truth/` of its own, `test_private/`, `test_private_mixed/` (MVTec AD 2)": [
        [
            *(*TREE, "validation/good/0.png", "test_public/good/0.png", "test_public/bad/1.png"),
            *("test_public/ground_truth/bad/1_mask.png", "test_private/0.png", "test_private_mixed/0.png"),
        ]
    ],
    "several masks of one image in a folder (MVTec LOCO)": [
        [*TREE, "test/dent/0.png", "ground_truth/dent/0/0_mask.png", "ground_truth/dent/0/1_mask.png"]
    ],
    "`unlabelled/`, `unlabeled/` or `unknown/` below `train/` or `test/`": [
        [*TREE, f"{name}/0.png"] for name in ("train/unlabelled", "test/unlabeled", "train/unknown")
    ],
    "`ok/`, `OK/`, `Good/`, `normal/` and the like below `train/` or `test/` (BTAD, Lookout for Vision)": [
        *(
            [*TREE, f"test/{name}/0.png"]
            for name in (
                "ok",
                "OK",
                "Good",
                "i.O.",
                "Defect-free",
                "pass",
                "0_normal",
                "MT_Free",
                "uncracked",
                "no_damage",
            )
        ),
        ["train/normal/0.png", "train/anomaly/0.png"],
        ["train/ok/0.png", "test/ok/0.png", "test/ko/1.png"],
    ],
    "`images/`, `labels/`, `0/`, `1/` and the like below `train/` or `test/` (YOLO)": [
        [f"train/{name}/0.png"] for name in ("images", "labels", "0", "1", "masks", "train")
    ],
    "`train/`, or `test/` alone, with other folders than `good/` only": [
        ["train/gutteile/0.png"],
        ["test/camera 1/0.png", "production/0.png"],
        ["validation/dent/0.png", *TREE],
    ],
    "images right in `train/` or `test/` (KolektorSDD 2, COCO)": [["train/0.png"], [*TREE, "test/0.png"]],
    "`Train/`, `training/`, `test_set/`, `val/` alone, `gt/` beside `train/` and the like": [
        *(
            [f"{name}/0.png"]
            for name in ("Train", "training", "test_set", "val", "eval", "Test-Images", "trainset")
        ),
        ["train_good/0.png", "test_bad/1.png"],
        *([*TREE, f"{name}/dent/0.png"] for name in ("Test", "testing", "gt", "Ground_Truth", "masks")),
    ],
    "two folders for one split, such as `val/` and `validation/`": [
        [*TREE, "val/good/0.png", "validation/good/0.png"],
        [*TREE, "test/good/0.png", "test_public/good/0.png"],
    ],
    "other folders and files beside those of a tree": [
        [*TREE, name] for name in ("extra/5.png", "readme.txt", "9.png")
    ],
    "trees below the source (all of MVTec AD, of BTAD)": [
        ["bottle/train/good/0.png", "bottle/test/good/1.png"],
        ["01/Train/0.png", "01/Test/1.png"],
        ["a/steel/train/good/0.png"],
    ],
    "`OK/` and `NG/`, `normal/` and `anomaly/` and the like, or one of them right in the source (VisA,"
    " Real-IAD)": [
        *(
            [f"{good}/0.png", f"{bad}/1.png"]
            for good, bad in (("OK", "NG"), ("normal", "anomaly"), ("good", "bad"))
        ),
        ["Data/Images/Normal/0.png", "Data/Images/Anomaly/1.png"],
        ["line 1/OK/0.png", "line 1/NG/1.png"],
        ["good/0.png", "scratch/1.png"],
        ["Defect_images/0.png", "NODefect_images/1.png"],
    ],
    "`segmentation/`, `label_masks/` and the like": [
        ["images/0.png", f"{name}/0.png"]
        for name in ("segmentation", "label_masks", "Mask_images", "gtMasks")
    ],
    "folders such as `split=train/label=normal/`": [["split=train/label=normal/0.png"]],
    "any other folders": [["line 1/camera 2/0.png", "b/0.png"]],
    "hidden names: `.ipynb_checkpoints`, `.Trash-1000`, `.git`, `._000.png`, `.DS_Store`": [
        _beside(name)
        for name in (
            *(".ipynb_checkpoints/0-checkpoint.png", ".Trash-1000/files/5.png", ".git/5.png", ".DS_Store"),
            *("a/._000.png", ".snapshot/daily/5.png", ".thumbnails/5.png", "._.DS_Store", ".@__thumb/5.png"),
        )
    ]
    + [[*TREE, "train/.ipynb_checkpoints/5.png", "test/good/0.png", "test/good/._0.png"]],
    "names of systems and viewers: `@eaDir`, `#recycle`, `$RECYCLE.BIN`, `System Volume Information`,"
    " `lost+found`, `__MACOSX`, `Thumbs.db`, `desktop.ini`": [
        _beside(name)
        for name in (
            *(
                "@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
                "#recycle/5.png",
                "$RECYCLE.BIN/$R1.png",
                "lost+found/5.png",
            ),
            *(
                "System Volume Information/5.png",
                "__MACOSX/5.png",
                "Thumbs.db",
                "desktop.ini",
                "a/Desktop.ini",
            ),
            *(
                "@Recycle/5.png",
                "@Recently-Snapshot/5.png",
                "~snapshot/5.png",
                "RECYCLER/5.png",
                "#snapshot/5.png",
            ),
            *("a.png:Zone.Identifier", "a.png@SynoResource", "~$list.xlsx", "__pycache__/5.png"),
        )
    ]
    + [[*TREE, "test/@eaDir/5.png", "test/good/0.png"]],
    "what raysvq wrote: heat maps and rows, models, sweeps, reports, demos": [
        _beside("scores/_commits/run.json", "scores/heatmaps/5.png", "scores/scores/site=a/part.parquet"),
        _beside("_commits/run.json", "heatmaps/5.png"),
        _beside("scores/_work/run/pending.parquet", "scores/heatmaps/5.png"),
        _beside("scores/_leases/run.json", "scores/heatmaps/5.png"),
        _beside("model/bundle.json", "model/weights.safetensors"),
        _beside("report/evaluation.json", "report/images.parquet", "report/report.html"),
        _beside("sweep/_sweep/trials.json", "sweep/leaderboard.parquet"),
        _beside("demo/.raysvq-demo", "demo/sample/test/good/5.png", "demo/scores/heatmaps/5.png"),
    ],
    "`.jfif .jpe .pjpeg .apng .j2k .pnm .pbm .dib .btf .mpo` and the others above, in capitals too": [
        [f"a{ending}"]
        for ending in (
            ".jfif",
            ".jpe",
            ".pjpeg",
            ".apng",
            ".j2k",
            ".pnm",
            ".pbm",
            ".dib",
            ".btf",
            ".mpo",
            ".jif",
            ".pjp",
            ".JPX",
            ".TIFF",
            ".Jp2",
        )
    ],
    "`.heic .avif .dng .cr2 .exr .npy .dcm .svg .pdf .mp4 .zip` and the like": [
        _beside(f"5{ending}")
        for ending in (
            ".heic",
            ".avif",
            ".dng",
            ".cr2",
            ".exr",
            ".npy",
            ".dcm",
            ".svg",
            ".pdf",
            ".mp4",
            ".ZIP",
            ".NEF",
        )
    ],
    "images without an extension, or with an unknown one": [
        _beside(name) for name in ("IMG_0001", "a.png_original", "a.png.tmp", "b.", "c.001")
    ],
    "other files": [{"kept.png": None, "notes.txt": b"no image"}, {"kept.png": None, "a.png.TXT": b""}],
    "names that are not UTF-8": [_named(b"a\xff.png"), _named(b"k\xf6ln.png")],
    "a link to a folder, or to a file": [
        _linked("link", "{elsewhere}"),
        _linked("a.png", "{elsewhere}/1.png"),
    ],
    "a link that leads nowhere": [_linked("link.png", "gone.png"), _linked("link", "{elsewhere}/gone")],
    "a link to a folder above it, or to one that is read anyway": [
        *(_linked("z", target) for target in (".", "..", "there")),
        _linked("there/up", ".."),
    ],
    "links by which two folders or images of a tree are one": [
        _twice("test", "train"),
        _twice("test/good", "../train/good"),
        _twice("test/good/2.png", "../../train/good/0.png"),
        _twice("train/good/2.png", "0.png"),
        _twice("train/good/0 again.png", "1.png"),
    ],
    "a pipe, a socket, a device": [_pipe],
    "no images, without `--allow-empty`": [
        {"notes.txt": b"no image"},
        ["a.heic"],
        {"listing.csv": b"uri\n"},
        [".hidden.png"],
    ],
}
