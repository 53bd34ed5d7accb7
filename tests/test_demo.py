"""A demo removes what an earlier demo made, and never a file of the user's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from raysvq.demo import run_demo
from raysvq.errors import DataError
from raysvq.settings import Settings

PIXELS = np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8)
MADE = ["model/bundle.json", "scores/scores/part-1.parquet", "scores/_commits/1.json", "report/report.html"]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and scoring leave a file or two at once."""

    def write_sample(folder: Path) -> str:
        _put(folder / "images/panel.png")
        _put(folder / "masks/panel.png", np.eye(40, dtype=np.uint8) * 255)
        (folder / "listing.csv").write_text("uri\nimages/panel.png\n")
        return str(folder / "listing.csv")

    def run(folder: Path, _: Settings) -> None:
        for name in MADE:
            _put(folder / name)

    monkeypatch.setattr("raysvq.demo.write_sample", write_sample)
    monkeypatch.setattr("raysvq.demo._run", run)


def _put(path: Path, pixels: npt.NDArray[np.uint8] = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def _refused(data: Path | None, out: Path, match: str) -> None:
    before = _files(out)
    with pytest.raises(DataError, match=match):
        run_demo(str(data) if data else None, str(out), Settings())
    assert _files(out) == before


def test_a_demo_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    run_demo(None, str(tmp_path / "out"), Settings())
    images = _put(tmp_path / "images/a.png").parent
    run_demo(str(images), str(tmp_path / "out"), Settings())
    made = {*MADE, "manifest.parquet", ".raysvq-demo"}
    assert set(_files(tmp_path / "out")) == made
    assert not (tmp_path / "out/sample").exists()
    assert (images / "a.png").exists()


def test_a_demo_that_failed_makes_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path, _: Settings) -> None:
        _put(folder / "model/_training/checkpoint/weights")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raysvq.demo._run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_demo(None, str(tmp_path), Settings())
    run_demo(None, str(tmp_path), Settings())
    assert not (tmp_path / "model/_training").exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "sample/images/mine.png",
        "scores/notes.txt",
        "model/photo.jpg",
        "report/.hidden",
        "a/b.txt",
    ],
)
def test_a_file_put_into_a_demos_folder_is_refused(tmp_path: Path, name: str) -> None:
    run_demo(None, str(tmp_path), Settings())
    _put(tmp_path / name)
    _refused(None, tmp_path, f"no demo made, or that changed since, such as {name}")


def test_a_file_that_the_user_changed_is_refused(tmp_path: Path) -> None:
    run_demo(None, str(tmp_path), Settings())
    (tmp_path / "sample/listing.csv").write_text("uri,label\nimages/panel.png,normal\n")
    _refused(None, tmp_path, r"no demo made, or that changed since, such as sample/listing\.csv")


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json"])
def test_a_mark_alone_gives_nothing_away(tmp_path: Path, content: str) -> None:
    _put(tmp_path / "sample/mine.png")
    (tmp_path / ".raysvq-demo").write_text(content)
    _refused(None, tmp_path, "no demo made")


def test_a_copied_demo_is_the_users(tmp_path: Path) -> None:
    run_demo(None, str(tmp_path / "out"), Settings())
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    _refused(None, tmp_path / "copy", "no demo made")


def test_links_are_refused_and_not_followed(tmp_path: Path) -> None:
    mine = _put(tmp_path / "mine/a.png").parent
    for link in (tmp_path / "out/scores/linked", tmp_path / "file/model/one.png"):
        run_demo(None, str(link.parents[1]), Settings())
        link.symlink_to(mine if link.suffix == "" else mine / "a.png")
        _refused(None, link.parents[1], f"no demo made, .* such as .*{link.name}")
    assert (mine / "a.png").exists()


def _listing(out: Path, images: Path) -> Path:
    listing = images / "listing.csv"
    listing.write_text(f"uri\n{out}/sample/images/panel.png\na.png\n")
    return listing


def _masks(out: Path, images: Path) -> Path:
    listing = images / "listing.csv"
    listing.write_text(f"uri,mask_uri,label\na.png,{out}/sample/masks/panel.png,anomalous\n")
    return listing


def _linked_file(out: Path, images: Path) -> Path:
    (images / "linked.png").symlink_to(out / "sample/images/panel.png")
    return images


def _linked_tree(out: Path, images: Path) -> Path:
    (images.parent / "elsewhere").symlink_to(out / "sample")
    return images.parent / "elsewhere"


def _below(out: Path, _: Path) -> Path:
    return out / "sample/images"


@pytest.mark.parametrize("leading", [_listing, _masks, _linked_file, _linked_tree, _below])
def test_images_that_lead_into_the_folder_are_refused(
    tmp_path: Path, leading: Callable[[Path, Path], Path]
) -> None:
    out, images = tmp_path / "out", _put(tmp_path / "images/a.png").parent
    run_demo(None, str(out), Settings())
    _refused(leading(out, images), out, "lies in .*, which the demo empties first")


def test_a_folder_with_files_is_refused_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(tmp_path / "precious.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    _refused(None, Path(), "no demo made")
    with pytest.raises(DataError, match="no demo made"):
        run_demo(None, os.sep, Settings())
    (tmp_path / "link").symlink_to(tmp_path)
    _refused(None, tmp_path / "link", "no demo made")
    with pytest.raises(DataError, match="is a file; expected a folder"):
        run_demo(None, str(tmp_path / "precious.png"), Settings())
    with pytest.raises(DataError, match="a demo makes a local folder"):
        run_demo(None, "s3://bucket/demo", Settings())
