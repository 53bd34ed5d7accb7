"""Listings as tools write them: a case or more for each row on them in docs/own-data.md."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raysvq.data.index import build_index
from raysvq.settings import SplitSettings
from tests.data.folders import PICTURE, Special


def _csv(text: str | bytes) -> dict[str, Any]:
    content = text.encode() if isinstance(text, str) else text
    return {"listing.csv": content} | dict.fromkeys(["a.png", "b.png", "a b.png"])


def _columns(*names: str) -> list[dict[str, Any]]:
    return [_csv(f"uri,{name}\na.png,\n") for name in names]


def _cells(column: str, *values: str) -> list[dict[str, Any]]:
    return [_csv(f"uri,{column}\na.png,{value}\n") for value in values]


def _parquet(**columns: Any) -> Special:
    """A Parquet listing, of one image more for each value."""

    def build(root: Path) -> Path:
        (root / "a.png").write_bytes(PICTURE)
        pq.write_table(pa.table({"uri": ["a.png"]} | columns), root / "listing.parquet")
        return root / "listing.parquet"

    return build


def _manifest(root: Path) -> Path:
    (root / "a.png").write_bytes(PICTURE)
    header, cells = "uri,label,split,captured_at,line", "a.png,normal,validation,2026-05-04,4"
    (root / "listing.csv").write_text(f"{header}\n{cells}\n")
    build_index(str(root / "listing.csv"), str(root / "old.parquet"), SplitSettings())
    return root / "old.parquet"


def _written(root: Path, text: str) -> Path:
    (root / "a.png").write_bytes(PICTURE)
    (root / "listing.csv").write_text(text)
    return root / "listing.csv"


LISTINGS: dict[str, list[Any]] = {
    "a column in other letters, with blanks or dashes: `Group`, ` split`, `Mask-URI`, `capturedAt`": [
        *_columns(
            "Group", " split", "Mask-URI", "capturedAt", "GROUP", "label ", " label", "Defect Type", "LABEL"
        ),
        *(_csv(f"{name}\na.png\n") for name in ("URI", " uri", "Uri")),
        _csv("uri, label, split, group\na.png, normal, train, lot-0\n"),
    ],
    "a column that is misspelt, or another word for one that is not there: `lable`, `image_path`, `mask`,"
    " `class`, `timestamp`": [
        *_columns(
            "lable", "labels", "splits", "gruop", "mask", "mask_path", "class", "timestamp", "captured"
        ),
        *(_csv(f"{name}\na.png\n") for name in ("image_path", "path", "filename", "image", "image_uri")),
    ],
    "a column without a name, such as the index that pandas writes": [
        _csv(",uri\n0,a.png\n"),
        _csv("uri,label,\na.png,normal,\n"),
    ],
    "a column that stands twice": [
        _csv("uri,label,label\na.png,normal,anomalous\n"),
        _csv("uri,x,x\na.png,1,2\n"),
    ],
    "fields separated by semicolons or tabs": [
        _csv("uri;label\na.png;normal\n"),
        _csv("uri\tlabel\na.png\tnormal\n"),
    ],
    "UTF-16, Latin-1, a quote that is never closed": [
        _csv("uri,label\na.png,normal\n".encode("utf-16")),
        _csv("uri,site\na.png,Köln\n".encode("latin-1")),
        _csv('uri,site\na.png,"north\nb.png,south\n'),
    ],
    "a line with more or fewer cells than the header": [
        _csv("uri,label,split\na.png,normal\n"),
        _csv("uri,label\na.png,normal,train\n"),
    ],
    "`OK`, `Good`, `NG`, `0`, `true` or a defect as a label": [
        *_cells(
            "label", "OK", "Good", "good", "NG", "ko", "bad", "defect", "0", "1", "true", "Normal", " normal"
        ),
        *_cells("label", "scratch", "nan"),
        _parquet(label=[True]),
        _parquet(label=[1]),
    ],
    "a normal image with a kind of defect": [_csv("uri,label,defect_type\na.png,normal,scratch\n")],
    "`val`, `training` as a split": _cells("split", "val", "training", "Train", "TEST", " test"),
    "`nan`, `NULL`, `None`, `N/A`, `-` as a group or kind of defect": [
        *_cells("group", "nan", "NaN", "NULL", "None", "N/A", "<NA>", "-"),
        *_cells("defect_type", "nan"),
        _parquet(group=["nan"]),
    ],
    "blanks around a group or kind of defect": [
        *_cells("group", " lot-0", "lot-0 "),
        *_cells("defect_type", " dent"),
    ],
    "Parquet: NaN, NaT, null": [
        _parquet(group=pa.array([float("nan")])),
        _parquet(group=pa.array([None], pa.string()), label=pa.array([None], pa.string())),
        _parquet(captured_at=pa.array([None], pa.timestamp("ns")), site=pa.array([float("nan")])),
    ],
    "Parquet: whole numbers, also as floats or decimals, as a group": [
        _parquet(group=pa.array([3.0])),
        _parquet(group=pa.array([3], pa.int8())),
        _parquet(group=pa.array([decimal.Decimal("3.00")])),
    ],
    "Parquet: text without the string annotation, as a dictionary, large or view": [
        _parquet(uri=pa.array([b"a.png"]), group=pa.array(["Köln".encode()], pa.binary())),
        _parquet(group=pa.array(["Köln"]).dictionary_encode()),
        _parquet(uri=pa.array(["a.png"], pa.large_string()), group=pa.array(["Köln"], pa.string_view())),
    ],
    "Parquet: bytes that are not UTF-8": [
        _parquet(group=pa.array([b"K\xf6ln"])),
        _parquet(uri=pa.array([b"\xff"])),
    ],
    "Parquet: lists and structures": [_parquet(tags=[["a", "b"]]), _parquet(label=[{"name": "normal"}])],
    "a manifest": [_manifest],
    "a time without an offset, a date; a fraction of nanoseconds": [
        *_cells(
            "captured_at", "2026-05-04", "2026-05-04T10:00", "20260504", "2026-05-04T10:00:00.123456789Z"
        ),
        _parquet(captured_at=[datetime.date(2026, 5, 4)]),
        _parquet(captured_at=pa.array([1_777_888_999_123_456_789], pa.timestamp("ns", "Europe/Berlin"))),
    ],
    "seconds since 1970, other ways to write a time": [
        *_cells("captured_at", "1777888999", "1512103012345", "04.05.2026", "yesterday", "NaT"),
        _parquet(captured_at=[1_777_888_999]),
        _parquet(captured_at=[20_260_504]),
    ],
    "a time that is outside the years 1 to 9999 in UTC": [
        *_cells("captured_at", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"),
        _parquet(captured_at=pa.array([10**12], pa.timestamp("s"))),
        _parquet(captured_at=pa.array([10**15], pa.timestamp("ms", "UTC"))),
    ],
    "`./a.png`, `x/../a.png`, `../set/a.png`, `file:///…`": [
        *(_csv(f"uri\n{uri}\n") for uri in ("./a.png", "x/../a.png", "../set/a.png", ".//a.png")),
        lambda root: _written(root, f"uri\nfile://{root}/a.png\n"),
    ],
    r"`~/a.png`, `C:\a.png`, `img\a.png`, `https://…`, `s3a://…`, `file:a.png`": [
        _csv(f"uri\n{uri}\n")
        for uri in (
            *("~/a.png", "~user/a.png", r"C:\a.png", "D:/a.png", r"\\server\share\a.png", r"img\a.png"),
            *("https://example.com/a.png", "https://b.s3.amazonaws.com/a.png", "s3a://b/a.png", "file:a.png"),
        )
    ],
    "`a%20b.png` for a file `a b.png`": [_csv("uri\na%20b.png\n")],
    "one image listed twice, also by two spellings": [
        _csv(f"uri\na.png\n{uri}\n") for uri in ("a.png", "./a.png", "x/../a.png", ".//a.png")
    ],
    "some listed files that do not exist": [_csv("uri\na.png\ngone.png\n")],
    "no listed file that exists": [_csv("uri\ngone.png\ngone too.png\n")],
    "`.jsonl` and `.manifest` (SageMaker Ground Truth), `.tsv`, `.xlsx`, `.csv.gz`": [
        {f"listing.{kind}": b"{}"} for kind in ("jsonl", "manifest", "tsv", "xlsx", "csv.gz", "json")
    ],
}
