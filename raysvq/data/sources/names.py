"""File and folder names: which files count as images, and which names never belong to an image set."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

from raysvq.data.sources.synonyms import word_set

EXTENSIONS = word_set(
    ".png .apng .jpg .jpeg .jpe .jif .jfi .jfif .pjpeg .pjp .mpo .tif .tiff .btf .tf8 .bmp .dib .webp"
    " .gif .jp2 .j2k .j2c .jpc .jpf .jpx .pgm .ppm .pbm .pnm .pam"
)

# Pictures, and containers of pictures, that raysvq does not decode.
OTHER_FORMATS = word_set(
    ".heic .heif .hif .avif .jxl .jxr .wdp .jls .jxs .dng .raw .nef .nrw .cr2 .cr3 .crw .arw .srf"
    " .sr2 .orf .rw2 .raf .srw .pef .3fr .iiq .rwl .x3f .exr .hdr .pfm .xbm .xpm .ico .cur .icns"
    " .tga .pcx .sgi .ras .psd .psb .xcf .kra .ai .eps .ps .svg .svgz .emf .wmf .pdf .djvu .dcm .dicom"
    " .nii .fit .fits .vtk .svs .ndpi .czi .lif .lsm .nd2 .npy .npz .mat .h5 .hdf5 .zarr .tfrecord"
    " .lmdb .mdb .mp4 .m4v .avi .mov .mkv .wmv .webm .mpg .mpeg .mts .zip .tar .tgz .gz .bz2 .xz .zst"
    " .7z .rar"
)

HIDDEN = "hidden files or folders"
SYSTEM = "files or folders of a system or a viewer"
RESULTS = "results of raysvq"
NOT_UTF8 = "names that are not UTF-8"

_SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "~snapshot"),  # Synology, NetApp
        *("@recycle", "@recently-snapshot", "@qsync", "@transcode", "@upload_cache"),  # QNAP
        *("$recycle.bin", "$extend", "recycler", "recycled", "system volume information", "found.000"),
        *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder"),
        *("lost+found", "lost.dir", "__pycache__"),
    }
)
_SYSTEM_FILES = re.compile(
    r"(eh)?thumbs(_vista)?\.db(:.*)?|desktop\.ini|iconcache\.db|picasa\.ini|zbthumbnail\.info|icon\r|autorun\.inf"
    r"|.+@syno(resource|eastream)|.+:zone\.identifier|~\$.+|.*_\$folder\$|_success",
    re.IGNORECASE,
)

# A name that only raysvq writes -> the names that it writes into the same folder; None: everything in it. In
# every listing such a mark comes before the folders that it explains.
_OWN: dict[str, frozenset[str] | None] = {
    "_commits/": word_set("_commits/ _ids/ _work/ _leases/ scores/ rejects/ maps/ heatmaps/"),
    "bundle.json": word_set(
        "bundle.json weights.safetensors decisions.json history.json training_ids.parquet"
        " stem/ card.md tensorboard/ _training/ _calibration/"
    ),
    "_sweep/": word_set("_sweep/ report.html leaderboard.parquet best.yaml model/"),
    "evaluation.json": word_set("evaluation.json images.parquet report.html"),
    ".raysvq-demo": None,
}
_ALSO_MARKS = {"_work/": "_commits/", "_leases/": "_commits/"}
_ALSO_MARKS |= {"_training/": "bundle.json", "_calibration/": "bundle.json"}


def mark_of(name: str) -> str | None:
    """The key of _OWN that a name stands for: raysvq wrote into its folder. None where it is no mark."""
    mark = _ALSO_MARKS.get(name, name)
    return mark if mark in _OWN else None


def why_left_out(name: str, marks: Collection[str] = ()) -> str | None:
    """Why a name never belongs to an image set; None where it may. A folder's name ends in a slash.

    Args:
        marks: what `mark_of` found in the folder that the name is in.
    """
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        return NOT_UTF8
    for content in map(_OWN.get, marks):
        if content is None or name in content:
            return RESULTS
    if name.startswith("."):
        return HIDDEN
    if name.endswith("/"):
        return SYSTEM if name[:-1].lower() in _SYSTEM_FOLDERS else None
    return SYSTEM if _SYSTEM_FILES.fullmatch(name) else None


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by its extension."""
    return extension(name) in EXTENSIONS


def extension(name: str) -> str:
    """The name from its last dot on, in lower case; empty where there is no dot."""
    ending = posixpath.splitext(name)[1].lower()
    return "" if ending == "." else ending


def printable(name: str) -> str:
    """A name as one line of text: characters that cannot be printed are escaped."""
    return name if name.isprintable() else repr(name)[1:-1]
