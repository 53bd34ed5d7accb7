from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from raysvq.evaluation import masks
from raysvq.evaluation.masks import MaskReader


def _write(path: Path, marked: int) -> str:
    mask = np.zeros((9, 11), np.uint8)  # 99 pixels: no whole number of bytes
    mask.ravel()[:marked] = 255
    cv2.imwrite(str(path), mask)
    return str(path)


def test_a_mask_is_read_from_its_store_once(tmp_path: Path) -> None:
    uri, reader = _write(tmp_path / "mask.png", 23), MaskReader()
    first = reader.read(uri, 9, 11)
    Path(uri).unlink()
    again = reader.read(uri, 9, 11)
    assert first is not None
    assert again is not None
    assert first.sum() == 23
    assert (again == first).all()
    assert again.dtype == bool
    assert reader.problems == {}


def test_masks_that_do_not_fit_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_KEPT_BYTES", 13)  # one of them
    kept, other = (_write(tmp_path / name, 5) for name in ("kept.png", "other.png"))
    reader = MaskReader()
    for uri in (kept, other):
        assert reader.read(uri, 9, 11) is not None
        Path(uri).unlink()
    assert reader.read(kept, 9, 11) is not None
    assert reader.read(other, 9, 11) is None
    assert "cannot be read" in reader.problems[other]


def test_an_image_of_another_size_does_not_take_the_kept_mask(tmp_path: Path) -> None:
    uri, reader = _write(tmp_path / "mask.png", 5), MaskReader()
    assert reader.read(uri, 9, 11) is not None
    assert reader.read(uri, 11, 9) is None
    assert reader.problems[uri] == "is 11 x 9 pixels, its image 9 x 11"
