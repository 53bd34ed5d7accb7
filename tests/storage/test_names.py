"""How places are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysvq.storage import (
    canonical,
    image_id,
    join,
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/data/images/", "/data/images"),
        ("/data/./a/../images", "/data/images"),
        ("file:///data/images", "/data/images"),
        ("FILE:///data/images", "/data/images"),
        ("s3://bucket/images/", "s3://bucket/images"),
        ("s3://bucket/a b#c?d%20e", "s3://bucket/a b#c?d%20e"),
        ("S3://Bucket/Images", "s3://Bucket/Images"),
        ("gs://bucket/x", "gs://bucket/x"),
    ],
)
def test_canonical_is_the_one_spelling(given: str, expected: str) -> None:
    assert canonical(given) == expected
    assert canonical(canonical(given)) == expected


def test_canonical_resolves_against_folder_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert canonical("a/b.png") == str(tmp_path / "a/b.png")
    assert canonical(Path("a")) == str(tmp_path / "a")
    assert canonical("~/a") == "/home/someone/a"


def test_join_takes_no_account_of_a_trailing_slash() -> None:
    assert join("s3://bucket/a/", "b", "c d#.png") == "s3://bucket/a/b/c d#.png"
    assert join("/data", "x") == "/data/x"


def test_image_id_depends_on_the_uri_alone() -> None:
    assert image_id("s3://b/größe.png") == image_id("s3://b/größe.png")
    assert image_id("s3://b/a.png") != image_id("s3://b/b.png")
    assert len(image_id("x")) == 32
    assert int(image_id("x"), 16) < 2**128
